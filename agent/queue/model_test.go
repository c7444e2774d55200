package queue

import "github.com/google/go-cmp/cmp"

func differ(a, b any) string { return cmp.Diff(a, b) }
