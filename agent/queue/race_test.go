//go:build race

package queue

// stride makes sweeps over every call visit one in so many: the race detector makes SQLite, which is Go here, ten times slower.
// Without it, as build/check.sh runs them once more, they visit all.
const stride = 9
