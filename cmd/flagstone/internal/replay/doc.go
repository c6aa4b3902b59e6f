// Package replay runs request traces through a cache that several processes
// share, each of which replays its share of the requests.
package replay
