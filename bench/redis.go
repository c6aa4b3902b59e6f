package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"
)

// errNoRedis says that there is no redis-server to measure.
var errNoRedis = errors.New("redis-server is not installed")

// redisCache is a private server without persistence behind a unix socket, and one
// connection to it.
type redisCache struct {
	conn   redis.Conn
	server *exec.Cmd
	dir    string
	args   []any
}

func startRedis(ctx context.Context, _ options) (cache, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	dir, err := os.MkdirTemp("", "bench-redis-")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "socket")
	c := &redisCache{dir: dir, server: exec.Command(path,
		"--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
		"--save", "", "--appendonly", "no", "--dir", dir, "--loglevel", "warning")}
	c.server.Stderr = os.Stderr
	c.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.server.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for c.conn, err = redis.Dial("unix", socket); err != nil; c.conn, err = redis.Dial("unix", socket) {
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("connect to redis: %w", err), c.close())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return c, nil
}

func (c *redisCache) get(s stream, dst []byte) (hits int, err error) {
	for i := range s.len() {
		v, err := c.conn.Do("GET", s.key(i))
		if err != nil {
			return hits, err
		}
		if v, ok := v.([]byte); ok {
			copy(dst, v)
			hits++
		}
	}
	return hits, nil
}

func (c *redisCache) getBatch(s stream, dst []byte) (hits int, err error) {
	for from := 0; from < s.len(); from += batchSize {
		group := s.part(from, batchSize)
		c.args = c.args[:0]
		for i := range group.len() {
			c.args = append(c.args, group.key(i))
		}
		values, err := redis.Values(c.conn.Do("MGET", c.args...))
		if err != nil {
			return hits, err
		}
		for i, v := range values {
			if v, ok := v.([]byte); ok {
				copy(dst[i*s.size:], v)
				hits++
			}
		}
	}
	return hits, nil
}

// set pipelines.
func (c *redisCache) set(s stream) (int, error) {
	for i := range s.len() {
		if err := c.conn.Send("SET", s.key(i), s.value(i)); err != nil {
			return 0, err
		}
	}
	if err := c.conn.Flush(); err != nil {
		return 0, err
	}
	for i := range s.len() {
		if _, err := c.conn.Receive(); err != nil {
			return i, err
		}
	}
	return s.len(), nil
}

func (c *redisCache) settle() {}

func (c *redisCache) close() error {
	var err error
	if c.conn != nil {
		err = c.conn.Close()
	}
	err = errors.Join(err, c.server.Process.Signal(syscall.SIGTERM))
	_, waited := c.server.Process.Wait()
	return errors.Join(err, waited, os.RemoveAll(c.dir))
}
