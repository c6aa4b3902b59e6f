package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/flagstone-shm/flagstone"
)

// Session is what is known of a visitor.
type Session struct {
	User   string
	Visits int
}

// Sessions are shared by all processes that open the cache. One ends when it was
// not used for Idle.
type Sessions struct {
	store *flagstone.Typed[Session]
	idle  time.Duration
}

// NewSessions returns the sessions in a cache.
func NewSessions(cache *flagstone.Cache, idle time.Duration) *Sessions {
	// Another version of the type gets another name, and never sees these.
	return &Sessions{flagstone.NewTyped(cache.Namespace("session:v1"), flagstone.JSON[Session]()), idle}
}

// ErrNoSession says that there is no such session, or no longer.
var ErrNoSession = errors.New("no session")

// Begin makes a session and returns its id.
func (s *Sessions) Begin(ctx context.Context, user string) (id string, err error) {
	id = rand.Text()
	return id, s.store.Set(ctx, id, Session{User: user}, s.idle)
}

// Use returns a session and keeps it for another Idle.
func (s *Sessions) Use(ctx context.Context, id string) (Session, error) {
	session, ok, err := s.store.Get(id)
	if ok && err == nil {
		ok, err = s.store.Touch(ctx, id, s.idle)
	}
	if !ok && err == nil {
		err = ErrNoSession
	}
	return session, err
}

// Change changes a session, once, whatever other processes do to it meanwhile.
func (s *Sessions) Change(ctx context.Context, id string, change func(*Session)) (Session, error) {
	for {
		session, it, ok, err := s.store.GetItem(id)
		if err != nil {
			return session, err
		}
		if !ok {
			return session, ErrNoSession
		}
		change(&session)
		if _, stored, err := s.store.CompareAndSwap(ctx, id, it.Token, session, s.idle); stored || err != nil {
			return session, err
		}
	}
}

// End ends a session.
func (s *Sessions) End(ctx context.Context, id string) error {
	_, err := s.store.Delete(ctx, id)
	return err
}

const cookie = "session"

// handler serves /login?user=NAME, /visit, /who and /logout.
func handler(s *Sessions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		id, err := s.Begin(r.Context(), r.FormValue("user"))
		if err == nil {
			http.SetCookie(w, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true})
		}
		answer(w, Session{User: r.FormValue("user")}, err)
	})
	mux.HandleFunc("/visit", func(w http.ResponseWriter, r *http.Request) {
		session, err := s.Change(r.Context(), sessionID(r), func(s *Session) { s.Visits++ })
		answer(w, session, err)
	})
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		session, err := s.Use(r.Context(), sessionID(r))
		answer(w, session, err)
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		answer(w, Session{}, s.End(r.Context(), sessionID(r)))
	})
	return mux
}

func sessionID(r *http.Request) string {
	if c, err := r.Cookie(cookie); err == nil {
		return c.Value
	}
	return ""
}
