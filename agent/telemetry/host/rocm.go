package host

import (
	"bytes"
	"path"
	"regexp"
	"strings"
)

// rocm finds the system's ROCm ("5.7.0-63") and HIP ("5.7.31921-d1770ee1b"); each "" when there is none.
func (r *Reader) rocm() (rocm, hip string) {
	var roots []string
	if root := r.getenv("ROCM_PATH"); root != "" && r.files.machine() {
		roots = append(roots, root)
	}
	roots = append(roots, "/opt/rocm")
	roots = append(roots, r.files.glob("/opt/rocm-*")...)
	for _, root := range roots {
		rocm = r.rocmVersion(root)
		if rocm == "" {
			continue
		}
		// HIP of the same installation, also when another has one and this has not.
		return rocm, r.hipVersion(root)
	}
	// Distributions spread ROCm over /usr and say only HIP's version.
	for _, root := range append(roots, "/usr") {
		if hip = r.hipVersion(root); hip != "" {
			return "", hip
		}
	}
	return "", ""
}

func (r *Reader) rocmVersion(root string) string {
	for _, name := range []string{".info/version", ".info/version-dev", ".info/version-utils"} {
		data, err := r.files.read(path.Join(root, name), 4<<10)
		if err != nil {
			continue
		}
		if version := parseROCmVersion(data); version != "" {
			return version
		}
	}
	return ""
}

var rocmVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)+([-+.~][0-9A-Za-z.+~-]+)?$`)

// parseROCmVersion reads .info/version: one line, "5.7.0-63". "" when it is something else.
func parseROCmVersion(data []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	version := strings.TrimSpace(string(line))
	if len(version) > 128 || !rocmVersion.MatchString(version) {
		return ""
	}
	return version
}

func (r *Reader) hipVersion(root string) string {
	for _, name := range []string{"share/hip/version", "bin/.hipVersion", "include/hip/hip_version.h"} {
		data, err := r.files.read(path.Join(root, name), 64<<10)
		if err != nil {
			continue
		}
		if version := parseHIPVersion(data); version != "" {
			return version
		}
	}
	return ""
}

// hipLine matches both forms: HIP_VERSION_MAJOR=5 of the version files, #define HIP_VERSION_MAJOR 5 of the header.
var hipLine = regexp.MustCompile(`^(?:#[ \t]*define[ \t]+)?HIP_VERSION_(MAJOR|MINOR|PATCH|GITHASH)(?:[ \t]*=[ \t]*|[ \t]+)"?([0-9A-Za-z]*)"?$`)

var number = regexp.MustCompile(`^[0-9]+$`)

// parseHIPVersion gives MAJOR.MINOR.PATCH-GITHASH, as torch.version.hip has it. Debian's file has an empty hash: no "-" then.
// "" when a number is missing.
func parseHIPVersion(data []byte) string {
	parts := map[string]string{}
	for line := range bytes.Lines(data) {
		if m := hipLine.FindSubmatch(bytes.TrimSpace(line)); m != nil && len(m[2]) <= 64 {
			parts[string(m[1])] = string(m[2])
		}
	}
	for _, part := range []string{"MAJOR", "MINOR", "PATCH"} {
		if !number.MatchString(parts[part]) {
			return ""
		}
	}
	version := parts["MAJOR"] + "." + parts["MINOR"] + "." + parts["PATCH"]
	if hash := parts["GITHASH"]; hash != "" {
		version += "-" + hash
	}
	return version
}
