package helm

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	yaml3 "gopkg.in/yaml.v3"
)

// What the chart has from elsewhere. This file is the first by name, because the others need it right.

func TestCopies(t *testing.T) {
	for file, original := range map[string]string{
		"nginx/pollux-maps.conf":      "nginx/pollux-maps.conf",
		"nginx/pollux-locations.conf": "nginx/pollux-locations.conf",
		"alerts.yml":                  "deploy/prometheus/alerts.yml",
		"dashboard.json":              "deploy/grafana/dashboards/pollux.json",
		"redis.conf":                  "deploy/redis/redis.conf",
	} {
		same(t, chart+"/files/"+file, read(t, root+"/"+original))
	}
}

// option is a row of docs/configuration.md.
type option struct{ name, kind string }

var row = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]+) \\| [^|]+ \\| ")

func options(t *testing.T) []option {
	t.Helper()
	var all []option
	for _, cells := range row.FindAllStringSubmatch(read(t, root+"/docs/configuration.md"), -1) {
		all = append(all, option{cells[1], cells[2]})
	}
	if len(all) < 100 {
		t.Fatalf("only %d options in docs/configuration.md", len(all))
	}
	return all
}

// shape is what the schema says of an option's value.
func shape(t *testing.T, one option) map[string]any {
	t.Helper()
	switch one.kind {
	case "text", "URL", "secret":
		return map[string]any{"type": "string"}
	case "switch":
		return map[string]any{"type": "boolean"}
	case "number":
		return map[string]any{"type": "integer", "minimum": 0}
	case "ratio":
		return map[string]any{"type": "number", "minimum": 0, "maximum": 1}
	case "port":
		return map[string]any{"type": "integer", "minimum": 0, "maximum": 65535}
	case "bytes":
		return map[string]any{"type": []string{"integer", "string"}, "minimum": 0, "pattern": "^[0-9]+ *[A-Za-z]*$"}
	case "seconds", "milliseconds":
		return map[string]any{"type": []string{"number", "string"}, "minimum": 0, "pattern": "^[0-9.]+(ms|s)?$"}
	case "list":
		return map[string]any{"type": []string{"string", "array"}, "items": map[string]any{"type": "string"}}
	}
	if !strings.HasPrefix(one.kind, "`") {
		t.Errorf("the schema knows nothing of %s, the kind of %s", one.kind, one.name)
	}
	var words []string
	for word := range strings.SplitSeq(one.kind, ", ") {
		words = append(words, strings.Trim(word, "`"))
	}
	return map[string]any{"enum": words}
}

// Secrets and options are at the end of the schema, so that they can be written anew.
func TestOptionsOfTheSchema(t *testing.T) {
	names, properties := map[string]any{}, map[string]any{}
	var secrets string
	for _, one := range options(t) {
		properties[one.name] = shape(t, one)
		// Addresses may hold a password; that of Redis has values of its own.
		if one.kind == "secret" || one.kind == "URL" && !strings.HasPrefix(one.name, "redis_") {
			names[one.name] = map[string]any{"type": []string{"string", "null"}, "minLength": 1}
		}
		if one.kind == "secret" {
			secrets += one.name + "\n"
		}
	}
	// What the templates tell to go into a Secret.
	same(t, chart+"/files/secrets.txt", secrets)
	const start = "    \"secretKeys\": "
	path := chart + "/values.schema.json"
	head, _, found := strings.Cut(read(t, path), start)
	if !found {
		t.Fatal("the schema has no secretKeys")
	}
	same(t, path, head+start+closed(t, names)+",\n    \"options\": "+closed(t, properties)+"\n  }\n}\n")
}

// closed is the schema of an object that has nothing but these.
func closed(t *testing.T, properties map[string]any) string {
	t.Helper()
	text, err := json.MarshalIndent(map[string]any{
		"type": "object", "additionalProperties": false, "properties": properties,
	}, "    ", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func between(t *testing.T, text, start, end string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, start)
	inner, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("nothing between %q and %q", start, end)
	}
	return inner
}

// value is one of values.yaml that can be set.
type value struct{ path, usual, meaning string }

// values are all of them: a key without a comment is only there for the keys below it.
func values(t *testing.T) []value {
	t.Helper()
	var document yaml3.Node
	if err := yaml3.Unmarshal([]byte(read(t, chart+"/values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var all []value
	var walk func(prefix string, node *yaml3.Node)
	walk = func(prefix string, node *yaml3.Node) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, content := node.Content[i], node.Content[i+1]
			path := strings.TrimPrefix(prefix+"."+key.Value, ".")
			if len(content.Content) > 0 && content.Kind == yaml3.MappingNode && key.HeadComment == "" {
				walk(path, content)
				continue
			}
			// What stands before an empty line is about the file.
			paragraphs := strings.Split(key.HeadComment, "\n\n")
			comment := paragraphs[len(paragraphs)-1]
			meaning := strings.Join(strings.Fields(strings.ReplaceAll("\n"+comment, "\n#", "\n")), " ")
			if meaning == "" {
				t.Errorf("%s has no comment in values.yaml", path)
			}
			all = append(all, value{path, usual(t, content), meaning})
		}
	}
	walk("", document.Content[0])
	if len(all) < 100 {
		t.Fatalf("only %d values", len(all))
	}
	return all
}

// usual is the default as it is shown: of one line, without what YAML needs for lines.
func usual(t *testing.T, node *yaml3.Node) string {
	t.Helper()
	var plain any
	if err := node.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTableOfTheReadme(t *testing.T) {
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	for _, one := range values(t) {
		meaning := strings.ReplaceAll(one.meaning, "|", "\\|")
		fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", one.path, one.usual, meaning)
	}
	path := chart + "/README.md"
	start, end := "<!-- values: made of values.yaml by `BLESS=1 tests/helm/run` -->\n", "<!-- end of values -->"
	text := read(t, path)
	old := between(t, text, start, end)
	same(t, path, strings.Replace(text, start+old+end, start+table.String()+end, 1))
}

// TestSchemaKnowsEveryValue: each value is in the schema, and each part of the schema is a value.
func TestSchemaKnowsEveryValue(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	definitions := schema["$defs"].(map[string]any)
	var known []string
	var walk func(prefix string, part map[string]any)
	walk = func(prefix string, part map[string]any) {
		if reference, is := part["$ref"].(string); is {
			part = definitions[strings.TrimPrefix(reference, "#/$defs/")].(map[string]any)
		}
		properties, closed := part["properties"].(map[string]any)
		leaf := prefix == "config" || prefix == "secrets.keys" || strings.HasSuffix(prefix, "resources")
		if !closed || leaf {
			known = append(known, prefix)
			return
		}
		if part["additionalProperties"] != false {
			t.Errorf("%s takes what it does not know", prefix)
		}
		for name, property := range properties {
			walk(strings.TrimPrefix(prefix+"."+name, "."), property.(map[string]any))
		}
	}
	walk("", schema)
	var there []string
	for _, one := range values(t) {
		there = append(there, one.path)
	}
	for _, path := range known {
		// Helm's own, which every chart is given.
		if path != "global" && !slices.Contains(there, path) {
			t.Errorf("the schema has %s, values.yaml has not", path)
		}
	}
	for _, path := range there {
		if !slices.Contains(known, path) {
			t.Errorf("values.yaml has %s, the schema has not", path)
		}
	}
}

// Every value is used: another template would be changed in vain.
func TestTemplatesUseOnlyValues(t *testing.T) {
	// Without the keys that a `with` or `range` gives to what is inside of it.
	uses := regexp.MustCompile(`\$?\.(?:root\.)?Values\.([A-Za-z.]+)`)
	text, known := templates(t), values(t)
	for _, use := range uses.FindAllStringSubmatch(text, -1) {
		path := strings.TrimSuffix(use[1], ".")
		is := func(one value) bool {
			return one.path == path || strings.HasPrefix(one.path, path+".") || strings.HasPrefix(path, one.path+".")
		}
		if !slices.ContainsFunc(known, is) {
			t.Errorf("a template uses %s, which values.yaml has not", path)
		}
	}
	for _, one := range known {
		last := one.path[strings.LastIndex(one.path, ".")+1:]
		if !regexp.MustCompile(`[."]` + last + `\b`).MatchString(text) {
			t.Errorf("no template uses %s", one.path)
		}
	}
}
