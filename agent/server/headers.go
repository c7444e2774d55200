package server

import "net/http"

// permissions switches off what the page never uses. Only names that browsers know: an unknown one is an error on their console.
const permissions = "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()"

// setSecurityHeaders sets what every answer carries, the service worker's script too, which has a policy of its own. Nothing
// inline is allowed anywhere; 'wasm-unsafe-eval' lets WebAssembly compile and nothing else.
func setSecurityHeaders(h http.Header, host string) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "+
		// Safari before 15.4 does not count the socket as 'self'. The guard has checked that host is one of ours.
		"connect-src 'self' ws://"+host+" wss://"+host+"; "+
		"manifest-src 'self'; worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	setBaseHeaders(h)
}

// setBaseHeaders sets what does not depend on the request.
func setBaseHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Permissions-Policy", permissions)
}
