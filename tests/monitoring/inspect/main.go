// Reads the dashboard and the alert rules for tests/client/test_monitoring.py, with the packages of Grafana and Prometheus.
//
//	inspect dashboard FILE    fails unless Grafana's schema knows every field of the dashboard
//	inspect expressions       reads a JSON list of PromQL expressions, and writes what each one selects
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Selector is a metric and the labels by which its series are chosen.
type Selector struct {
	Metric   string    `json:"metric"`
	Matchers []Matcher `json:"matchers"`
}

// Matcher is a condition on a label. The value is exact if the operator is `=`.
type Matcher struct {
	Label    string `json:"label"`
	Operator string `json:"operator"`
	Value    string `json:"value"`
}

// Result describes the labels of a vector: those of the metrics, and further ones by name.
type Result struct {
	Metrics []string `json:"metrics"`
	Labels  []string `json:"labels"`
}

// Grouping is a list of labels by which a vector is aggregated or matched.
type Grouping struct {
	Labels []string `json:"labels"`
	Of     Result   `json:"of"`
}

// Expression is a parsed expression, or the error of the parser.
type Expression struct {
	Error     string     `json:"error"`
	Selectors []Selector `json:"selectors"`
	Groupings []Grouping `json:"groupings"`
	Result    Result     `json:"result"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "dashboard":
		return checkDashboard(arguments[1])
	case len(arguments) == 1 && arguments[0] == "expressions":
		return describeExpressions()
	}
	return errors.New("usage: inspect dashboard FILE | inspect expressions")
}

func checkDashboard(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// The fields of other kinds of panels and data sources would not be checked.
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	var found dashboard.Dashboard
	// The error is a list, which is empty and not nil if nothing is wrong.
	var wrong cog.BuildErrors
	if err := found.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &wrong) || len(wrong) > 0) {
		return err
	}
	// The strict function leaves out what it has accepted.
	if err := json.Unmarshal(text, &found); err != nil {
		return err
	}
	for _, panel := range found.Panels {
		if panel.Panel == nil {
			continue
		}
		if kind := panel.Panel.Type; kind != "stat" && kind != "timeseries" {
			return fmt.Errorf("register the schema of panels of the type %s in this program", kind)
		}
	}
	return found.Validate()
}

func describeExpressions() error {
	var texts []string
	if err := json.NewDecoder(os.Stdin).Decode(&texts); err != nil {
		return err
	}
	promql := parser.NewParser(parser.Options{})
	described := make([]Expression, len(texts))
	for at, text := range texts {
		tree, err := promql.ParseExpr(text)
		if err != nil {
			described[at].Error = err.Error()
			continue
		}
		described[at].Result = described[at].describe(tree)
	}
	return json.NewEncoder(os.Stdout).Encode(described)
}

// describe records the selectors and groupings of a tree and returns the labels of its result.
func (e *Expression) describe(tree parser.Expr) Result {
	switch node := tree.(type) {
	case *parser.VectorSelector:
		selector := Selector{Metric: node.Name, Matchers: []Matcher{}}
		for _, matcher := range node.LabelMatchers {
			if matcher.Name != labels.MetricName {
				selector.Matchers = append(selector.Matchers,
					Matcher{matcher.Name, matcher.Type.String(), matcher.Value})
			}
		}
		e.Selectors = append(e.Selectors, selector)
		return Result{Metrics: []string{node.Name}}
	case *parser.AggregateExpr:
		of := e.describe(node.Expr)
		e.Groupings = append(e.Groupings, Grouping{node.Grouping, of})
		if !node.Without {
			return Result{Labels: node.Grouping}
		}
		return of
	case *parser.BinaryExpr:
		left, right := e.describe(node.LHS), e.describe(node.RHS)
		if matching := node.VectorMatching; matching != nil {
			e.Groupings = append(e.Groupings, Grouping{matching.MatchingLabels, left})
			if matching.On {
				e.Groupings = append(e.Groupings, Grouping{matching.MatchingLabels, right})
			}
			left.Labels = append(left.Labels, matching.Include...)
		}
		// One side of an operation with a scalar has no metrics.
		if node.Op == parser.LOR || node.VectorMatching == nil {
			left.Metrics = slices.Concat(left.Metrics, right.Metrics)
			left.Labels = slices.Concat(left.Labels, right.Labels)
		}
		return left
	}
	var result Result
	for _, child := range parser.Children(tree) {
		if below, ok := child.(parser.Expr); ok {
			of := e.describe(below)
			result.Metrics = append(result.Metrics, of.Metrics...)
			result.Labels = append(result.Labels, of.Labels...)
		}
	}
	return result
}
