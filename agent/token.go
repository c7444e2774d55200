package agent

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files of the data folder that the command line reads.
const (
	tokenFile   = "token"
	addressFile = "address"
)

// minToken is the shortest token that MUSTER_TOKEN may set, in bytes.
const minToken = 16

// Token gives what programs send as Bearer: MUSTER_TOKEN, else the content of DATA/token, which is made with 256 random bits and
// mode 0600 when create is set. Without create a missing file is fs.ErrNotExist.
func Token(c Config, create bool) (string, error) {
	if c.Token != "" {
		if len(c.Token) < minToken || strings.ContainsAny(c.Token, " \t\r\n") {
			return "", fmt.Errorf("MUSTER_TOKEN: must be at least %d characters without white space", minToken)
		}
		return c.Token, nil
	}
	path := filepath.Join(c.Data, tokenFile)
	raw, err := os.ReadFile(path)
	switch token := strings.TrimSpace(string(raw)); {
	case err == nil && len(token) >= minToken:
		return token, nil
	case err == nil:
		return "", fmt.Errorf("token %s: is shorter than %d characters; delete the file and start the agent again", path, minToken)
	case !create || !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(random(32))
	if err := writePrivate(path, token+"\n"); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return token, nil
}

// Address gives where the running agent listens, as it wrote to DATA/address; fs.ErrNotExist when none runs.
func Address(c Config) (string, error) {
	raw, err := os.ReadFile(filepath.Join(c.Data, addressFile))
	return strings.TrimSpace(string(raw)), err
}

func random(bytes int) []byte {
	b := make([]byte, bytes)
	rand.Read(b)
	return b
}

// writePrivate replaces a file in one step, readable by this user alone.
func writePrivate(path, content string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // CreateTemp uses mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(content)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
