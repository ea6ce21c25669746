// Go's regexp answers for the differential test.
//
// "names" prints what \p{...} may hold, one JSON string a line. Otherwise each line of standard input is a JSON object
// {"pattern": "...", "texts": ["...", ...]}, and each answer a line: {"error": "..."} with what Compile says, or
// {"matches": [true, ...]} with what MatchString says of each text.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

type question struct {
	Pattern string   `json:"pattern"`
	Texts   []string `json:"texts"`
}

type answer struct {
	Error   string `json:"error,omitempty"`
	Matches []bool `json:"matches,omitempty"`
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if len(os.Args) > 1 && os.Args[1] == "names" {
		names(encoder)
		return
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var asked question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		encoder.Encode(ask(asked))
	}
}

func ask(asked question) (answered answer) {
	compiled, err := regexp.Compile(asked.Pattern)
	if err != nil {
		answered.Error = strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return
	}
	for _, text := range asked.Texts {
		answered.Matches = append(answered.Matches, compiled.MatchString(text))
	}
	return
}

func names(encoder *json.Encoder) {
	for _, known := range [][]string{
		slices.Sorted(maps.Keys(unicode.Categories)),
		slices.Sorted(maps.Keys(unicode.Scripts)),
		slices.Sorted(maps.Keys(unicode.CategoryAliases)),
		{"Any", "ASCII", "Assigned"},
	} {
		for _, name := range known {
			encoder.Encode(name)
		}
	}
}
