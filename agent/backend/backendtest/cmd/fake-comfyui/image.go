package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// size is that of the latent image that an output node's picture comes from, as ComfyUI makes it: whole eights.
func (r *run) size(n *node) (width, height int) {
	for _, at := range r.p.graph {
		if strings.HasPrefix(at.Class, "Empty") {
			width, height = int(number(at.Inputs["width"]))/8*8, int(number(at.Inputs["height"]))/8*8
		}
	}
	return width, height
}

// draw gives a PNG that depends on all that the node is made of, but not on where it is saved.
func (r *run) draw(n *node) []byte {
	from, _, _ := linked(n.Inputs["images"])
	h := fnv.New64a()
	fmt.Fprint(h, r.sign(from))
	width, height := r.size(n)
	random := rand.New(rand.NewPCG(h.Sum64(), 1))
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	const block = 8
	for y := 0; y < height; y += block {
		for x := 0; x < width; x += block {
			c := color.NRGBA{uint8(random.UintN(256)), uint8(random.UintN(256)), uint8(random.UintN(256)), 255}
			for i := range block * block {
				if r.settings.Noise {
					c.R, c.G, c.B = uint8(random.UintN(256)), uint8(random.UintN(256)), uint8(random.UintN(256))
				}
				img.SetNRGBA(x+i%block, y+i/block, c)
			}
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, img); err != nil {
		fatal(err)
	}
	if r.options.noMetadata {
		return out.Bytes()
	}
	return withText(out.Bytes(), "prompt", string(encode(r.p.raw)))
}

// withText puts a tEXt chunk behind the header of a PNG.
func withText(file []byte, key, text string) []byte {
	const header = 8 + 25 // signature and IHDR
	body := append([]byte("tEXt"+key+"\x00"), text...)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(body)-4))
	chunk = append(chunk, body...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(body))
	return append(append(append([]byte{}, file[:header]...), chunk...), file[header:]...)
}

// save is save_images: the next free number behind the prefix, in a folder of the output or temp directory.
func (r *run) save(n *node) ([]any, error) {
	prefix, _ := n.Inputs["filename_prefix"].(string)
	dir, kind := r.options.output, "output"
	if n.Class == "PreviewImage" {
		prefix, dir, kind = "ComfyUI_temp_abcde", r.options.temp, "temp"
	}
	subfolder, name := filepath.Split(filepath.Clean(prefix))
	subfolder = strings.TrimSuffix(subfolder, "/")
	folder := filepath.Join(dir, subfolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	counter := 1
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if rest, ok := strings.CutPrefix(entry.Name(), name+"_"); ok {
			digits, _, _ := strings.Cut(rest, "_")
			if at, err := strconv.Atoi(digits); err == nil {
				counter = max(counter, at+1)
			}
		}
	}
	file := fmt.Sprintf("%s_%05d_.png", name, counter)
	if err := os.WriteFile(filepath.Join(folder, file), r.draw(n), 0o600); err != nil {
		return nil, err
	}
	return []any{map[string]any{"filename": file, "subfolder": subfolder, "type": kind}}, nil
}

// preview sends a picture of the unfinished image, in the form that the client declared.
func (s *server) preview(prompt, node string) {
	var out bytes.Buffer
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	kind, format := "image/jpeg", uint32(1)
	if s.settings.PreviewPNG {
		kind, format = "image/png", 2
		_ = png.Encode(&out, img)
	} else {
		_ = jpeg.Encode(&out, img, nil)
	}
	if s.settings.PreviewBytes > out.Len() {
		out.Write(make([]byte, s.settings.PreviewBytes-out.Len()))
	}
	s.mu.Lock()
	k, client := s.sockets[s.client], s.client
	metadata := k != nil && k.metadata
	s.mu.Unlock()
	if !metadata {
		message := binary.BigEndian.AppendUint32(nil, 1)
		message = binary.BigEndian.AppendUint32(message, format)
		s.events <- event{client: client, binary: append(message, out.Bytes()...)}
		return
	}
	about := encode(map[string]any{"node_id": node, "prompt_id": prompt, "display_node_id": node, "parent_node_id": nil, "real_node_id": node, "image_type": kind})
	message := binary.BigEndian.AppendUint32(nil, 4)
	message = binary.BigEndian.AppendUint32(message, uint32(len(about)))
	message = append(message, about...)
	s.events <- event{client: client, binary: append(message, out.Bytes()...)}
}
