package contract

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The golden vectors as far as this package can judge them: the framing of requests. The programs judge the params of
// theirs (helpers/linux runs all of helper.json); what comes from them is read by the keeper alone.
func TestVectors_Framing(t *testing.T) {
	for _, name := range []string{"helper.json", "share.json", "agent.json"} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("..", "vectors", name))
			if err != nil {
				t.Fatal(err)
			}
			var file struct {
				Count   int `json:"count"`
				Vectors []struct {
					ID, Why, Direction, Line, LineBase64 string
					Expect                               struct {
						Reject string
					}
				} `json:"vectors"`
			}
			if err := json.Unmarshal(raw, &file); err != nil {
				t.Fatal(err)
			}
			if len(file.Vectors) != file.Count || file.Count == 0 {
				t.Fatalf("the file says %d vectors and has %d", file.Count, len(file.Vectors))
			}
			ran, kept := 0, 0
			for _, v := range file.Vectors {
				if !strings.HasPrefix(v.Direction, "to-") {
					kept++
					continue
				}
				ran++
				line := []byte(v.Line)
				if v.LineBase64 != "" {
					if line, err = base64.StdEncoding.DecodeString(v.LineBase64); err != nil {
						t.Fatal(err)
					}
				}
				_, err := parseMessage(line)
				if refused := err != nil; refused != (v.Expect.Reject == "framing") {
					t.Errorf("%s (%s): parseMessage says %v", v.ID, v.Why, err)
				}
			}
			if ran+kept != file.Count {
				t.Errorf("ran %d and left %d of %d", ran, kept, file.Count)
			}
			t.Logf("%s: ran %d requests, left %d messages of the other direction to TypeScript", name, ran, kept)
		})
	}
}
