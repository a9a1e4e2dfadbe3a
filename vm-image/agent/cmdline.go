package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// bootParams is what the kernel command line tells the agent; helpers/contract/README.md, "Boot".
type bootParams struct {
	controlPort uint32  // 0: no host is to be called (test boots)
	image       string  // the manifest's id, 64 hex digits
	layers      []layer // bottom first; none: no root (test boots)
	data        string  // virtio serial of the task's disk; empty: the writable layer is memory
}

// layer is one read-only part of the root and the tree of hashes that proves its bytes.
type layer struct {
	serial         string
	algorithm      string
	dataBlocks     uint64
	hashStartBlock uint64
	rootHash       string
	salt           string // "-" for none, as device-mapper writes it
}

const (
	maxLayers    = 16      // the helper's bound for disks
	maxBlocks    = 1 << 40 // 4 PiB: no layer is larger, and no arithmetic on it overflows
	firstPort    = 1024
	lastPort     = 0xffff_fffe
	hexDigits    = "0123456789abcdef"
	serialLetter = "abcdefghijklmnopqrstuvwxyz0123456789-"
)

// digestHexLength lists the hash algorithms that a layer may use; the kernel must have them too.
var digestHexLength = map[string]int{"sha256": 64, "blake2b-256": 64}

// parseCommandLine reads the parameters that begin with "cloche."; an unknown one is an error, as everywhere in the contract.
// Each may stand there once, but layers. All else on the line is the kernel's.
func parseCommandLine(line string) (*bootParams, error) {
	p := &bootParams{}
	seen := map[string]bool{}
	for _, word := range strings.Fields(line) {
		if !strings.HasPrefix(word, "cloche.") {
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		if seen[key] && key != "cloche.layer" {
			return nil, errors.New(key + " stands there twice")
		}
		seen[key] = true
		if err := p.set(key, value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if p.controlPort != 0 && p.image == "" {
		return nil, errors.New("cloche.image is missing")
	}
	return p, nil
}

func (p *bootParams) set(key, value string) error {
	switch key {
	case "cloche.control":
		port, err := strconv.ParseUint(value, 10, 32)
		if err != nil || !isPort(port) {
			return errors.New("not a vsock port")
		}
		p.controlPort = uint32(port)
	case "cloche.image":
		if len(value) != 64 || !only(value, hexDigits) {
			return errors.New("not 64 hex digits")
		}
		p.image = value
	case "cloche.data":
		if !isSerial(value) {
			return errors.New("not a disk's serial")
		}
		p.data = value
	case "cloche.layer":
		l, err := parseLayer(value)
		if err != nil {
			return err
		}
		if len(p.layers) == maxLayers {
			return errors.New("more than " + itoa(maxLayers))
		}
		p.layers = append(p.layers, l)
	default:
		return errors.New("unknown")
	}
	return nil
}

// parseLayer reads <serial>,<alg>,<dataBlocks>,<hashStartBlock>,<rootHash>,<salt>. Every part is checked to its last
// character: they end up in a device-mapper table, where a blank would begin the next argument.
func parseLayer(value string) (layer, error) {
	var l layer
	parts := strings.Split(value, ",")
	if len(parts) != 6 {
		return l, errors.New("not six parts")
	}
	l = layer{serial: parts[0], algorithm: parts[1], rootHash: parts[4], salt: parts[5]}
	if !isSerial(l.serial) {
		return l, errors.New("not a disk's serial")
	}
	digits, known := digestHexLength[l.algorithm]
	if !known {
		return l, errors.New("unknown hash algorithm")
	}
	var err error
	if l.dataBlocks, err = parseBlocks(parts[2]); err != nil || l.dataBlocks == 0 {
		return l, errors.New("dataBlocks is not a number of blocks")
	}
	if l.hashStartBlock, err = parseBlocks(parts[3]); err != nil || l.hashStartBlock < l.dataBlocks {
		return l, errors.New("hashStartBlock is not a block behind the data")
	}
	if len(l.rootHash) != digits || !only(l.rootHash, hexDigits) {
		return l, errors.New("rootHash has not the algorithm's length in hex digits")
	}
	if l.salt != "-" && (l.salt == "" || len(l.salt) > 512 || len(l.salt)%2 != 0 || !only(l.salt, hexDigits)) {
		return l, errors.New("salt is neither - nor hex digits")
	}
	return l, nil
}

func parseBlocks(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > maxBlocks || (len(text) > 1 && text[0] == '0') {
		return 0, errors.New("out of range")
	}
	return n, nil
}

func isPort(n uint64) bool { return n >= firstPort && n <= lastPort }

func isSerial(text string) bool {
	return len(text) >= 1 && len(text) <= 20 && only(text, serialLetter)
}

// only says whether text is made of the given characters.
func only(text, allowed string) bool {
	return strings.Trim(text, allowed) == "" // Trim from both ends leaves something exactly when another character is in between
}
