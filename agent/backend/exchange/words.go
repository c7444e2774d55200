package exchange

import (
	"encoding/json"
	"strings"
	"unicode"
)

// maxWords bounds what people see of a program's own words, in bytes.
const maxWords = 300

// Clean bounds a text of a program that people see, and takes control characters out.
func Clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text)
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return strings.TrimSpace(text)
}

// Complaint finds what an error's body says to people, in the forms that generators use: {"error":"…","message":"…"} (sd-server),
// {"error":{"message":"…"}} (OpenAI, ComfyUI), {"error":"…","detail":"…","errors":"…"} (A1111), {"detail":"…"} and {"detail":[{"loc":[…],
// "msg":"…"}]} (FastAPI). What was sent is not repeated: "input", "body" and "ctx" hold prompts. "" when nothing is found.
func Complaint(body []byte) string {
	var said struct {
		Error, Message, Detail, Errors json.RawMessage
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	var parts []string
	for _, raw := range []json.RawMessage{said.Error, said.Message, said.Detail, said.Errors} {
		if words := wordsOf(raw); words != "" {
			parts = append(parts, words)
		}
	}
	return Clean(strings.Join(parts, ": "))
}

// wordsOf reads a string, the message of an object, or the messages of a list of FastAPI's.
func wordsOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var object struct{ Message, Details string }
	if json.Unmarshal(raw, &object) == nil {
		return object.Message
	}
	var list []struct {
		Loc []any
		Msg string
	}
	if json.Unmarshal(raw, &list) != nil {
		return ""
	}
	var messages []string
	for _, one := range list {
		field := ""
		if n := len(one.Loc); n > 0 {
			field, _ = one.Loc[n-1].(string)
		}
		messages = append(messages, strings.TrimPrefix(field+": "+one.Msg, ": "))
	}
	return strings.Join(messages, ", ")
}
