// Package helm checks the chart helm/pollux: what it renders, what it refuses, and whether that runs.
//
// tests/helm/run calls it with what it needs. BLESS=1 rewrites what is made of something else: the golden
// files, the copies in helm/pollux/files, the options in the schema, and the table of README.md.
package helm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	chart = root + "/helm/pollux"
)

// The oldest Kubernetes that the chart allows, and what every rendering is for.
const kubeVersion = "1.27.0"

func blessed() bool { return os.Getenv("BLESS") != "" }

// program finds what tests/helm/run has found: by the variable, else in the path.
func program(t *testing.T, variable, name string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: start tests/helm/run, or set %s", name, variable)
	}
	return path
}

// helm runs it, and returns standard output and standard error.
func helm(t *testing.T, arguments ...string) (string, string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.Command(program(t, "HELM_BIN", "helm"), arguments...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	return stdout.String(), stderr.String(), err
}

// template renders the chart with these arguments beside the usual ones.
func template(t *testing.T, arguments ...string) (string, string, error) {
	t.Helper()
	usual := []string{"template", "pollux", chart, "--namespace", "realtime", "--kube-version", kubeVersion}
	return helm(t, append(usual, arguments...)...)
}

func rendered(t *testing.T, arguments ...string) string {
	t.Helper()
	text, said, err := template(t, arguments...)
	if err != nil {
		t.Fatalf("%v: %s", arguments, said)
	}
	return text
}

// examples are the arguments for each of the examples, and for the values as they are.
func examples(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{"default": nil}
	files, err := filepath.Glob(chart + "/examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		found[strings.TrimSuffix(filepath.Base(file), ".yaml")] = []string{"--values", file}
	}
	return found
}

// object is one rendered document.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
	text []byte
}

var separator = regexp.MustCompile(`(?m)^---$`)

func objects(t *testing.T, text string) []object {
	t.Helper()
	var all []object
	for _, document := range separator.Split(text, -1) {
		if strings.TrimSpace(document) == "" {
			continue
		}
		var one object
		if err := yaml.Unmarshal([]byte(document), &one); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		// A template that had nothing to say leaves its comments.
		if one.Kind == "" {
			continue
		}
		one.text = []byte(document)
		all = append(all, one)
	}
	if len(all) < 4 {
		t.Fatalf("only %d objects", len(all))
	}
	return all
}

// find returns the object of this kind and name.
func find(t *testing.T, all []object, kind, name string) object {
	t.Helper()
	at := slices.IndexFunc(all, func(one object) bool { return one.Kind == kind && one.Metadata.Name == name })
	if at < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return all[at]
}

func decode[T any](t *testing.T, one object) T {
	t.Helper()
	var typed T
	if err := yaml.UnmarshalStrict(one.text, &typed); err != nil {
		t.Fatalf("%s %s: %v", one.Kind, one.Metadata.Name, err)
	}
	return typed
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// same compares a file with what it should be, or writes it. What differs first is shown.
func same(t *testing.T, path, wanted string) {
	t.Helper()
	if blessed() {
		write(t, path, wanted)
		return
	}
	found, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v; BLESS=1 tests/helm/run makes it", err)
		return
	}
	if string(found) == wanted {
		return
	}
	old, fresh := strings.Split(string(found), "\n"), strings.Split(wanted, "\n")
	line := 0
	for line < len(old) && line < len(fresh) && old[line] == fresh[line] {
		line++
	}
	at := func(lines []string) string {
		if line < len(lines) {
			return lines[line]
		}
		return "(its end)"
	}
	t.Errorf("%s is no longer what it is made of; BLESS=1 tests/helm/run writes it anew.\nline %d is %s\nbut should be %s",
		path, line+1, at(old), at(fresh))
}

// replaced is the text with something exchanged that has to be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func TestLint(t *testing.T) {
	for name, arguments := range examples(t) {
		said, errors, err := helm(t, append([]string{"lint", "--strict", chart, "--kube-version", kubeVersion}, arguments...)...)
		if err != nil {
			t.Errorf("%s: %s%s", name, said, errors)
		}
	}
}

// The dashboard is long, and has a file of its own that is compared.
var dashboard = regexp.MustCompile(`(?m)^  pollux\.json: \|\n((    .*)?\n)+`)

func TestGolden(t *testing.T) {
	known := examples(t)
	for name, arguments := range known {
		text := dashboard.ReplaceAllString(rendered(t, arguments...), "  pollux.json: (files/dashboard.json)\n")
		same(t, fmt.Sprintf("golden/%s.yaml", name), text)
	}
	files, err := filepath.Glob("golden/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, found := known[strings.TrimSuffix(filepath.Base(file), ".yaml")]; !found {
			t.Errorf("%s is of no example", file)
		}
	}
}

// A second rendering is the same, or every upgrade would replace pods.
func TestTheSameTwice(t *testing.T) {
	for name, arguments := range examples(t) {
		if rendered(t, arguments...) != rendered(t, arguments...) {
			t.Errorf("%s", name)
		}
	}
}

// templates are all of them, in one text.
func templates(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(chart+"/templates", func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all.WriteString(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
