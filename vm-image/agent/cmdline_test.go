package main

import (
	"strings"
	"testing"
)

var (
	image     = strings.Repeat("ab", 32)
	goodLayer = "layer0,sha256,51183,51183," + strings.Repeat("0f", 32) + ",7c6f"
	goodLine  = "console=ttyS0 quiet panic=-1 cloche.control=5000 cloche.image=" + image +
		" cloche.layer=" + goodLayer + " cloche.layer=" + strings.Replace(goodLayer, "layer0", "layer1", 1) + " cloche.data=data virtio_mmio.device=512@0xfeb00e00:12\n"
)

func TestCommandLine_Good_IsReadInOrder(t *testing.T) {
	p, err := parseCommandLine(goodLine)
	if err != nil {
		t.Fatal(err)
	}
	if p.controlPort != 5000 || p.image != image || p.data != "data" || len(p.layers) != 2 || p.layers[0].serial != "layer0" || p.layers[1].serial != "layer1" {
		t.Fatalf("%+v", p)
	}
}

func TestCommandLine_TestBoot_NeedsNothing(t *testing.T) {
	if p, err := parseCommandLine("console=ttyS0"); err != nil || len(p.layers) != 0 || p.controlPort != 0 {
		t.Fatal(p, err)
	}
}

func TestCommandLine_Hostile_IsRefused(t *testing.T) {
	part := func(n int, value string) string {
		f := strings.Split(goodLayer, ",")
		f[n] = value
		return "cloche.layer=" + strings.Join(f, ",")
	}
	for name, line := range map[string]string{
		"unknown key":                  "cloche.colour=red",
		"key without value":            "cloche.control",
		"port zero":                    "cloche.control=0 cloche.image=" + image,
		"port below 1024":              "cloche.control=1023 cloche.image=" + image,
		"port any":                     "cloche.control=4294967295 cloche.image=" + image,
		"port above 32 bits":           "cloche.control=4294968296 cloche.image=" + image,
		"port negative":                "cloche.control=-1 cloche.image=" + image,
		"port twice":                   "cloche.control=5000 cloche.control=5001 cloche.image=" + image,
		"no image":                     "cloche.control=5000",
		"image short":                  "cloche.image=" + image[1:],
		"image upper case":             "cloche.image=" + strings.ToUpper(image),
		"serial with a slash":          "cloche.data=../x",
		"serial too long":              "cloche.data=" + strings.Repeat("a", 21),
		"serial empty":                 "cloche.data=",
		"layer with five parts":        "cloche.layer=a,sha256,1,1," + image,
		"layer with seven parts":       "cloche.layer=" + goodLayer + ",1",
		"layer's unknown algorithm":    part(1, "crc32c"),
		"layer without blocks":         part(2, "0"),
		"layer's blocks negative":      part(2, "-1"),
		"layer's blocks in hex":        part(2, "0x10"),
		"layer's blocks overflow":      part(2, "18446744073709551616"),
		"layer's blocks too many":      part(2, "1099511627777"),
		"hash tree inside of the data": part(3, "51182"),
		"root hash short":              part(4, "0f"),
		"root hash not hex":            part(4, strings.Repeat("0g", 32)),
		"salt odd":                     part(5, "abc"),
		"salt empty":                   part(5, ""),
		"salt not hex":                 part(5, "zz"),
		"salt with a table's argument": part(5, "ab+ignore_corruption"),
		"17 layers":                    strings.Repeat("cloche.layer="+goodLayer+" ", 17),
	} {
		if p, err := parseCommandLine(line); err == nil {
			t.Errorf("%s: accepted as %+v", name, p)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	f.Add(goodLine)
	f.Fuzz(func(t *testing.T, line string) {
		p, err := parseCommandLine(line)
		if err != nil {
			return
		}
		for _, l := range p.layers {
			if strings.ContainsAny(verityTable("254:0", l), "\n\t\x00") || len(strings.Split(verityTable("254:0", l), " ")) != 10 {
				t.Fatalf("a table with other than its ten words from %q", line)
			}
		}
	})
}
