// Command mergekeys records what kustomize knows of the fields of Kubernetes' kinds.
//
// It prints, as compact JSON, the OpenAPI definitions that kyaml holds, reduced to what a
// strategic merge patch needs: which fields there are, and which lists are merged by which keys.
//
//	go run . | gzip -9n > ../../src/gitwright/render/kustomize/schema.json.gz
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

const (
	kinds    = "x-kubernetes-group-version-kind"
	strategy = "x-kubernetes-patch-strategy"
	listKeys = "x-kubernetes-list-map-keys"
	mergeKey = "x-kubernetes-patch-merge-key"
	prefix   = "#/definitions/"
)

// table is what is printed. A schema in it is -1 when it has nothing below it, the number of a
// definition, or an object: "p" fields, "m" the values of a map, "a" the items of a list, and
// "k" the keys by which a list is merged (none when it holds scalars).
type table struct {
	Definitions []any          `json:"definitions"`
	Kinds       map[string]int `json:"kinds"`
}

type reducer struct {
	numbers map[string]int
}

func (r reducer) reduce(schema *spec.Schema) any {
	if name, found := strings.CutPrefix(schema.Ref.String(), prefix); found {
		return r.numbers[name]
	}
	node := map[string]any{}
	if len(schema.Properties) > 0 {
		fields := map[string]any{}
		for name := range schema.Properties {
			property := schema.Properties[name]
			fields[name] = r.reduce(&property)
		}
		node["p"] = fields
	}
	if more := schema.AdditionalProperties; more != nil && more.Schema != nil {
		node["m"] = r.reduce(more.Schema)
	}
	if len(schema.Type) == 1 && schema.Type[0] == "array" && schema.Items != nil && schema.Items.Schema != nil {
		node["a"] = r.reduce(schema.Items.Schema)
	}
	if given, _ := schema.Extensions.GetString(strategy); merges(given) {
		node["k"] = keys(schema)
	}
	if len(node) == 0 {
		return -1
	}
	return node
}

func merges(strategies string) bool {
	for _, one := range strings.Split(strategies, ",") {
		if one == "merge" {
			return true
		}
	}
	return false
}

func keys(schema *spec.Schema) []string {
	if many, found := schema.Extensions.GetStringSlice(listKeys); found {
		return many
	}
	if one, found := schema.Extensions.GetString(mergeKey); found {
		return []string{one}
	}
	return []string{}
}

func typeOf(extension any) string {
	entry, _ := extension.(map[string]any)
	group, _ := entry["group"].(string)
	version, _ := entry["version"].(string)
	kind, _ := entry["kind"].(string)
	if group != "" {
		version = group + "/" + version
	}
	return version + " " + kind
}

func main() {
	definitions := openapi.Schema().Definitions
	names := make([]string, 0, len(definitions))
	for name := range definitions {
		names = append(names, name)
	}
	sort.Strings(names)
	r := reducer{numbers: map[string]int{}}
	for number, name := range names {
		r.numbers[name] = number
	}
	found := table{Kinds: map[string]int{}}
	for number, name := range names {
		definition := definitions[name]
		found.Definitions = append(found.Definitions, r.reduce(&definition))
		entries, _ := definition.Extensions[kinds].([]any)
		for _, entry := range entries {
			found.Kinds[typeOf(entry)] = number
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
