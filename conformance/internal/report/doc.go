// Package report shows what came of a conformance run, by level and by clause.
package report
