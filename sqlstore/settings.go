package sqlstore

import (
	"context"
	"time"

	"github.com/posthorn/webhook"
)

// The settings hold for the dispatchers of all processes. Each is a row with a JSON
// value.
const (
	pauseSetting = "paused" // there while dispatchers are paused
	purgeSetting = "last_purge"
)

// pause is who has paused the dispatchers, and when, in microseconds as in columns.
type pause struct {
	Since int64  `json:"since"`
	By    string `json:"by"`
}

// lastPurge is when all that was old had been deleted.
type lastPurge struct {
	At     int64               `json:"at"`
	Result webhook.PurgeResult `json:"result"`
}

func scanJSON[T any](scan func(...any) error, to *T) error { return scan(fromJSON[T]{to}) }

// isPaused is an expression that says whether dispatchers are paused. A statement
// that comes after the one that goes through the gate may rely on it.
const isPaused = "(select count(*) from {settings} where name = '" + pauseSetting + "')"

// pause returns who has paused the dispatchers, or nil.
func (c session) pause(ctx context.Context) (*pause, error) {
	p, found, err := first(ctx, c, scanJSON[pause], "select value from {settings} where name = ?", pauseSetting)
	if err != nil || !found {
		return nil, err
	}
	return &p, nil
}

// SetPaused pauses the dispatchers, or lets them go on. It closes the gate: claims
// that have not seen the change have ended when it returns.
func (s *Store) SetPaused(ctx context.Context, p webhook.SetPausedParams) error {
	err := s.write(ctx, "set paused", func(c session) error {
		if err := c.closeGate(ctx); err != nil {
			return err
		}
		if !p.Paused {
			_, err := c.exec(ctx, "delete from {settings} where name = ?", pauseSetting)
			return err
		}
		value, err := asJSON(pause{stored(p.Now).UnixMicro(), p.By}, false)
		if err == nil { // if it is there, it stays: since when they are paused does not change
			_, err = c.exec(ctx, "{insert} {settings} (name, value) values (?, ?) {or ignore}", pauseSetting, value)
		}
		return err
	}, func(c session) (bool, error) {
		now, err := c.pause(ctx)
		return (now != nil) == p.Paused, err
	})
	if err == nil {
		s.wake(everybody)
	}
	return err
}

// notePurge says that all that was old has been deleted.
func (s *Store) notePurge(ctx context.Context, now time.Time, r webhook.PurgeResult) error {
	value, err := asJSON(lastPurge{stored(now).UnixMicro(), r}, false)
	if err != nil {
		return err
	}
	return s.write(ctx, "note purge", func(c session) error {
		if _, err := c.exec(ctx, "{insert} {settings} (name, value) values (?, ?) {or ignore}", purgeSetting, value); err != nil {
			return err
		}
		_, err := c.exec(ctx, "update {settings} set value = ? where name = ?", value, purgeSetting)
		return err
	})
}
