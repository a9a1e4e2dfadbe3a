package tsc

// read gives the counter's value.
func read() uint64
