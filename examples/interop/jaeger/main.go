// Reads a running server's Jaeger routes into the types that Jaeger publishes for its own answers.
//
// An answer must be one of Jaeger's: no member that the types do not have, and nothing lost or changed when they are written again.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"

	jaeger "github.com/jaegertracing/jaeger/model/json"
)

// The frame around every answer, as Jaeger's query service writes it.
type answer[T any] struct {
	Data   T         `json:"data"`
	Total  int       `json:"total"`
	Limit  int       `json:"limit"`
	Offset int       `json:"offset"`
	Errors []failure `json:"errors"`
}

type failure struct {
	Code    int            `json:"code,omitempty"`
	Msg     string         `json:"msg"`
	TraceID jaeger.TraceID `json:"traceID,omitempty"`
}

func main() {
	if err := readAll(os.Getenv("SCOUTER_URL"), os.Getenv("SCOUTER_TOKEN"), os.Getenv("SCOUTER_SERVICE"), os.Getenv("SCOUTER_END_MILLIS")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func readAll(url, token, service, endMillis string) error {
	services, err := read[[]string](url+"/jaeger/api/services", token)
	if err != nil {
		return err
	}
	names, err := read[[]string](url+"/jaeger/api/services/"+service+"/operations", token)
	if err != nil {
		return err
	}
	operations, err := read[[]jaeger.Operation](url+"/jaeger/api/operations?service="+service, token)
	if err != nil {
		return err
	}
	// Without times the server looks at the last hour.
	found, err := read[[]jaeger.Trace](url+"/jaeger/api/traces?limit=20&start=0&end="+endMillis+"000&service="+service, token)
	if err != nil {
		return err
	}
	if len(found) == 0 || len(found[0].Spans) == 0 {
		return fmt.Errorf("no trace of %s was found", service)
	}
	one, err := read[[]jaeger.Trace](url+"/jaeger/api/traces/"+string(found[0].TraceID), token)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(one[0], found[0]) {
		return fmt.Errorf("a trace by its id is another than in the list")
	}
	for _, span := range one[0].Spans {
		if _, ok := one[0].Processes[span.ProcessID]; !ok {
			return fmt.Errorf("span %s has no process", span.SpanID)
		}
	}
	links, err := read[[]jaeger.DependencyLink](url+"/jaeger/api/dependencies?lookback=86400000&endTs="+endMillis, token)
	if err != nil {
		return err
	}
	fmt.Printf("{\"services\": %d, \"names\": %d, \"operations\": %d, \"traces\": %d, \"dependencies\": %d}\n",
		len(services), len(names), len(operations), len(found), len(links))
	return nil
}

func read[T any](url, token string) (T, error) {
	var nothing T
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nothing, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nothing, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nothing, err
	}
	if response.StatusCode != http.StatusOK {
		return nothing, fmt.Errorf("%s: %s %s", url, response.Status, body)
	}
	var of answer[T]
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(&of); err != nil {
		return nothing, fmt.Errorf("%s is not Jaeger's: %w", url, err)
	}
	written, err := json.Marshal(of)
	if err != nil {
		return nothing, err
	}
	before, after, err := plain(body, written)
	if err != nil {
		return nothing, err
	}
	if !reflect.DeepEqual(before, after) {
		return nothing, fmt.Errorf("%s is read as something else:\n%s\n%s", url, body, written)
	}
	return of.Data, nil
}

func plain(left, right []byte) (any, any, error) {
	var values [2]any
	for index, text := range [][]byte{left, right} {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&values[index]); err != nil {
			return nil, nil, err
		}
	}
	return values[0], values[1], nil
}
