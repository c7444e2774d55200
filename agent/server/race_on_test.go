//go:build race

package server

// The race detector ends a program with more goroutines than this.
const mostAtOnce = 7000
