//go:build !race

package server

const mostAtOnce = 10_000
