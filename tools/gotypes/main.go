// Command gotypes records how Go sees Kubernetes' built-in kinds.
//
//	gotypes dump       prints, as compact JSON, every struct type behind the kinds of client-go's scheme
//	gotypes roundtrip  reads objects as JSON lines and prints each after a typed round trip
//
// The first makes the table from which gitwright does the same conversion without Go:
//
//	go run . dump | gzip -9n > ../../src/gitwright/apply/gotypes.json.gz
//
// The second is the oracle that the conversion is tested against. Kinds that client-go does
// not know, CustomResourceDefinition among them, are not in the table: Flux leaves them untyped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/kubernetes/scheme"
)

// table is what `dump` prints. A type is written as a short text: a letter for a scalar or a
// type with its own JSON form, "#n" for struct n, and "*", "[" or "{" before another type for
// a pointer, a slice or a map of strings.
type table struct {
	// Kinds maps "apiVersion Kind" to the number of its struct.
	Kinds map[string]int `json:"kinds"`
	// Structs lists each struct's fields as [name, type, flags]; flags hold "e" for omitempty and "z" for omitzero.
	Structs [][][3]string `json:"structs"`
}

// special names the types that encode themselves.
var special = map[reflect.Type]string{
	reflect.TypeFor[resource.Quantity]():    "quantity",
	reflect.TypeFor[metav1.Time]():          "time",
	reflect.TypeFor[metav1.MicroTime]():     "microtime",
	reflect.TypeFor[metav1.Duration]():      "duration",
	reflect.TypeFor[intstr.IntOrString]():   "intorstring",
	reflect.TypeFor[runtime.RawExtension](): "raw",
	reflect.TypeFor[metav1.FieldsV1]():      "raw",
}

var (
	marshaler   = reflect.TypeFor[json.Marshaler]()
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	object      = reflect.TypeFor[metav1.Object]()
)

type walker struct {
	table   table
	numbers map[reflect.Type]int
}

func main() {
	if len(os.Args) != 2 {
		fail("usage: gotypes dump|roundtrip")
	}
	switch os.Args[1] {
	case "dump":
		dump()
	case "roundtrip":
		roundtrip()
	default:
		fail("unknown mode %q: dump or roundtrip", os.Args[1])
	}
}

func dump() {
	w := &walker{table: table{Kinds: map[string]int{}}, numbers: map[reflect.Type]int{}}
	known := scheme.Scheme.AllKnownTypes()
	names := map[string]reflect.Type{}
	for gvk, goType := range known {
		// Lists and options are no objects and never reach an apply.
		if gvk.Version == runtime.APIVersionInternal || !reflect.PointerTo(goType).Implements(object) {
			continue
		}
		apiVersion, kind := gvk.ToAPIVersionAndKind()
		names[apiVersion+" "+kind] = goType
	}
	for _, name := range sorted(names) {
		w.table.Kinds[name] = w.number(names[name])
	}
	check(json.NewEncoder(os.Stdout).Encode(w.table))
}

// number gives the struct's place in the table, and fills it in at the first call.
func (w *walker) number(goType reflect.Type) int {
	if number, ok := w.numbers[goType]; ok {
		return number
	}
	number := len(w.table.Structs)
	w.numbers[goType] = number
	w.table.Structs = append(w.table.Structs, nil)
	w.table.Structs[number] = w.fields(goType)
	return number
}

func (w *walker) fields(goType reflect.Type) [][3]string {
	fields := [][3]string{}
	for i := range goType.NumField() {
		field := goType.Field(i)
		parts := strings.Split(field.Tag.Get("json"), ",")
		name, options := parts[0], parts[1:]
		switch {
		case name == "-" || !field.IsExported():
			continue
		case name == "" && field.Anonymous:
			if field.Type.Kind() != reflect.Struct {
				fail("%v.%s: an embedded type that is no struct", goType, field.Name)
			}
			fields = append(fields, w.fields(field.Type)...)
			continue
		case name == "":
			name = field.Name
		}
		flags := ""
		for _, option := range options {
			switch option {
			case "omitempty":
				flags += "e"
			case "omitzero":
				flags += "z"
			case "inline":
			default:
				fail("%v.%s: unknown option %q in the JSON tag", goType, field.Name, option)
			}
		}
		fields = append(fields, [3]string{name, w.ref(field.Type), flags})
	}
	return fields
}

func (w *walker) ref(goType reflect.Type) string {
	if name, ok := special[goType]; ok {
		return name
	}
	pointer := reflect.PointerTo(goType)
	if goType.Kind() != reflect.Pointer && (pointer.Implements(marshaler) || pointer.Implements(unmarshaler)) {
		fail("%v encodes itself and is not known here", goType)
	}
	switch goType.Kind() {
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Float64:
		return goType.Kind().String()
	case reflect.Int:
		return "int64"
	case reflect.Pointer:
		return "*" + w.ref(goType.Elem())
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[" + w.ref(goType.Elem())
	case reflect.Map:
		if goType.Key().Kind() != reflect.String {
			fail("%v: a map whose keys are no strings", goType)
		}
		return "{" + w.ref(goType.Elem())
	case reflect.Struct:
		return fmt.Sprintf("#%d", w.number(goType))
	}
	fail("%v: no way to write this type down", goType)
	return ""
}

func roundtrip() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		content := map[string]any{}
		check(utiljson.Unmarshal(lines.Bytes(), &content))
		check(json.NewEncoder(out).Encode(typed(content)))
	}
	check(lines.Err())
	check(out.Flush())
}

// typed gives the object after the round trip, or null where the kind is not known or the object does not fit it.
func typed(content map[string]any) map[string]any {
	source := &unstructured.Unstructured{Object: content}
	target, err := scheme.Scheme.New(source.GroupVersionKind())
	if err != nil {
		return nil
	}
	if _, ok := target.(metav1.Object); !ok {
		return nil
	}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(content, target) != nil {
		return nil
	}
	result, err := runtime.DefaultUnstructuredConverter.ToUnstructured(target)
	check(err)
	return result
}

func sorted(names map[string]reflect.Type) []string {
	keys := make([]string, 0, len(names))
	for name := range names {
		keys = append(keys, name)
	}
	sort.Strings(keys)
	return keys
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "gotypes: "+format+"\n", arguments...)
	os.Exit(1)
}
