package fakesdapi

import (
	"net/http"
	"strconv"
)

func reply(w http.ResponseWriter, status int, kind string, body []byte) {
	if kind == "" {
		w.Header()["Content-Type"] = nil
	} else {
		w.Header().Set("Content-Type", kind)
	}
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func answer(w http.ResponseWriter, status int, value any) {
	reply(w, status, "application/json", encode(value))
}

// fail answers with an exception of the program: class, the detail of an HTTPException, the text of any other.
func (s *Server) fail(w http.ResponseWriter, status int, class, detail, text string) {
	switch s.cfg.Flavour {
	case Forge: // its own middleware is switched off
		if class == "HTTPException" {
			answer(w, status, map[string]any{"detail": detail})
		} else {
			reply(w, http.StatusInternalServerError, "text/plain; charset=utf-8", []byte("Internal Server Error"))
		}
	case SDNext:
		answer(w, status, map[string]any{"error": class, "code": status, "detail": detail, "body": "", "errors": text})
	case KoboldCpp, KoboldNew:
		answer(w, status, map[string]any{"detail": map[string]any{"msg": text, "type": class}})
	case SDServer:
		body := map[string]any{"error": detail}
		if text != "" {
			body["message"] = text
		}
		answer(w, status, body)
	default:
		answer(w, status, map[string]any{"error": class, "detail": detail, "body": "", "errors": text})
	}
}

// invalid is FastAPI's answer to a field of the wrong type.
func (s *Server) invalid(w http.ResponseWriter, field, message, kind string) {
	answer(w, http.StatusUnprocessableEntity, map[string]any{"detail": []any{
		map[string]any{"loc": []string{"body", field}, "msg": message, "type": kind},
	}})
}

func (s *Server) notFound(w http.ResponseWriter) {
	switch s.cfg.Flavour {
	case SDServer:
		reply(w, http.StatusNotFound, "", nil)
	case KoboldCpp, KoboldNew:
		reply(w, http.StatusNotFound, "text/html", []byte("Error: KoboldCpp HTTP Server is running, but this endpoint does not exist. Please check the URL."))
	default:
		answer(w, http.StatusNotFound, map[string]any{"detail": "Not Found"})
	}
}
