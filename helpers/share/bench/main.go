//go:build linux

// cloche-share-bench drives diod and cloche-share with the same Go 9P client over a unix socket and prints, as JSON,
// each round's times, their medians and the ratio ours/diod. Both serve folders on the same filesystem, take turns
// round by round, and each one's first round is thrown away. diod gets its own default of 16 worker threads and the
// largest frames it agrees to, 64 KiB; ours is measured with the same frames and with those the guest uses. Beside its
// modes stands plain: the same sessions over the same handles, with nothing kept and no confinement. Under "tasks" stand
// the times of what a user asks for: a list of changes, a diff, a restore.
//
//	cloche-share-bench -share ./cloche-share [-diod diod] [-dir /var/tmp] [-rounds 5] [-only write]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// contender is a running server with the folder it serves.
type contender struct {
	name     string
	dial     func(msize uint32) (*mount, error)
	folder   string
	msize    uint32
	readOnly bool
	stop     func()
	// call asks the server over its stdio; nil for a peer.
	call func(method string, params map[string]any) (map[string]any, error)
}

// result is one line of the table.
type result struct {
	Workload string               `json:"workload"`
	Ms       map[string][]float64 `json:"ms"`
	MedianMs map[string]float64   `json:"medianMs"`
	Ratio    map[string]float64   `json:"ratioToDiod"`
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == plainFlag {
		fmt.Fprintln(os.Stderr, "cloche-share-bench:", servePlain(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	share := flag.String("share", "cloche-share", "our server")
	diod := flag.String("diod", "diod", "diod")
	dir := flag.String("dir", os.TempDir(), "where the folders are made")
	rounds := flag.Int("rounds", 5, "rounds that count")
	only := flag.String("only", "", "workloads whose name contains this")
	flag.Parse()
	if err := run(*share, *diod, *dir, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "cloche-share-bench:", err)
		os.Exit(1)
	}
}

func run(share, diod, dir string, rounds int, only string) error {
	base, err := os.MkdirTemp(dir, "cloche-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	starts := []func(string) (*contender, error){
		func(f string) (*contender, error) { return startDiod(diod, f) },
		func(f string) (*contender, error) { return startOurs(share, f, "rw", diodMSize) },
		func(f string) (*contender, error) { return startOurs(share, f, "ro", diodMSize) },
		func(f string) (*contender, error) { return startPlain(f, guestMSize) },
		func(f string) (*contender, error) { return startOurs(share, f, "ro", guestMSize) },
		func(f string) (*contender, error) { return startOurs(share, f, "rw", guestMSize) },
		func(f string) (*contender, error) { return startOurs(share, f, "review", guestMSize) },
	}
	var contenders []*contender
	for i, start := range starts {
		folder := filepath.Join(base, fmt.Sprint(i))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		c, err := start(folder)
		if err != nil {
			return err
		}
		defer c.stop()
		contenders = append(contenders, c)
		if err := fill(folder); err != nil {
			return err
		}
	}
	var results []*result
	for _, w := range workloads {
		if !strings.Contains(w.name, only) {
			continue
		}
		r := &result{Workload: w.name, Ms: map[string][]float64{}, MedianMs: map[string]float64{}, Ratio: map[string]float64{}}
		for round := range rounds + 1 {
			for _, c := range contenders {
				if c.readOnly && w.writes {
					continue
				}
				took, err := once(c, w)
				if err != nil {
					return fmt.Errorf("%s with %s: %w", w.name, c.name, err)
				}
				if round > 0 {
					r.Ms[c.name] = append(r.Ms[c.name], float64(took.Microseconds())/1000)
				}
			}
		}
		for name, ms := range r.Ms {
			r.MedianMs[name] = median(ms)
		}
		for name, ms := range r.MedianMs {
			if name != "diod" {
				r.Ratio[name] = float64(int(ms/r.MedianMs["diod"]*1000)) / 1000
			}
		}
		fmt.Fprintf(os.Stderr, "%-24s %v %v\n", w.name, r.MedianMs, r.Ratio)
		results = append(results, r)
	}
	tasks, err := benchTasks(share, base, rounds, only)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(map[string]any{"rounds": rounds, "results": results, "tasks": tasks})
}

func once(c *contender, w workload) (time.Duration, error) {
	m, err := c.dial(c.msize)
	if err != nil {
		return 0, err
	}
	defer m.close()
	if err := m.prepare(w, c.folder); err != nil {
		return 0, err
	}
	begin := time.Now()
	err = w.run(m)
	return time.Since(begin), err
}

func median(ms []float64) float64 {
	sorted := slices.Sorted(slices.Values(ms))
	return sorted[len(sorted)/2]
}
