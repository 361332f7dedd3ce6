package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverArgs is the job: a delivery.
type riverArgs struct {
	Webhook int    `json:"webhook"` // its number; a host would keep its webhooks in memory
	EventID string `json:"event_id"`
	Payload string `json:"payload"`
}

// Kind names the job.
func (riverArgs) Kind() string { return "webhook_delivery" }

// newRiverArgs is an event for the targets in turn.
func newRiverArgs(targets []target, i int) riverArgs {
	at, id := i%len(targets), uuid.New()
	return riverArgs{Webhook: at, EventID: id.String(), Payload: string(payload(&targets[at], id))}
}

// riverWorker makes an attempt of a delivery, and logs it.
type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	client  *http.Client
	targets []target
	pool    *pgxpool.Pool
	turns   chan struct{} // one for each request at a time
	done    *progress
}

// Work does a job.
func (w *riverWorker) Work(ctx context.Context, job *river.Job[riverArgs]) error {
	t := &w.targets[job.Args.Webhook]
	select {
	case w.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	status, err := post(attempt, w.client, t, job.Args.EventID, []byte(job.Args.Payload))
	cancel()
	elapsed := time.Since(began)
	<-w.turns
	outcome := "succeeded"
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the receiver answered %d", status)
	}
	if err != nil {
		outcome = err.Error()
		w.done.fail(err)
	}
	_, logErr := w.pool.Exec(ctx, riverLogInsert,
		job.ID, job.Attempt, t.webhook.ID, job.Args.EventID, began, elapsed.Microseconds(), status, outcome, t.webhook.EndpointURL)
	if logErr != nil {
		w.done.fail(logErr)
	}
	w.done.add(1)
	return errors.Join(err, logErr)
}

// The log of attempts that a host would write. Its key is all the index that it
// has.
const (
	riverLogTable = `CREATE TABLE attempts (
		job_id bigint NOT NULL, number smallint NOT NULL, webhook_id uuid NOT NULL, event_id uuid NOT NULL,
		started_at timestamptz NOT NULL, duration_us bigint NOT NULL, status_code smallint NOT NULL,
		outcome text NOT NULL, endpoint_url text NOT NULL, PRIMARY KEY (job_id, number))`
	riverLogInsert = `INSERT INTO attempts
		(job_id, number, webhook_id, event_id, started_at, duration_us, status_code, outcome, endpoint_url)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	riverUnfinished = `SELECT count(*) FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled', 'pending')`
	riverSucceeded  = `SELECT (SELECT count(*) FROM river_job WHERE state = 'completed'), (SELECT count(*) FROM attempts WHERE outcome = 'succeeded')`
)

// riverDatabase is a database with River's tables and the log.
type riverDatabase struct {
	*postgresDatabase
}

func (b *bench) openRiver(ctx context.Context) (_ *riverDatabase, err error) {
	created, err := createPostgres(ctx, b.dsn)
	if err != nil {
		return nil, err
	}
	d := &riverDatabase{created}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.drop(ctx))
		}
	}()
	pool, err := d.pool(ctx, 4)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: b.warnings})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	_, err = pool.Exec(ctx, riverLogTable)
	return d, err
}

func (d *riverDatabase) pool(ctx context.Context, conns int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(d.dsn)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Database = d.name
	config.MaxConns = int32(conns)
	return pgxpool.NewWithConfig(ctx, config)
}

// runRiver makes a run in a new database.
func (b *bench) runRiver(ctx context.Context, s riverSettings, run riverRun, n int) (_ flowRun, err error) {
	d, err := b.openRiver(ctx)
	if err != nil {
		return flowRun{}, err
	}
	defer func() { err = errors.Join(err, d.drop(ctx)) }()
	return run(d, s, n)
}

// workOff empties the tables, inserts n jobs, and measures from the start of
// River's client until all are completed. With callers, as many of them insert the
// jobs while it runs, in a transaction each.
func (b *bench) workOff(ctx context.Context, d *riverDatabase, targets []target, s riverSettings, n, callers int) (run flowRun, err error) {
	pool, err := d.pool(ctx, s.conns)
	if err != nil {
		return run, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "TRUNCATE river_job, attempts"); err != nil {
		return run, err
	}
	client, err := b.newClient(s.requests)
	if err != nil {
		return run, err
	}
	defer client.CloseIdleConnections()
	done := newProgress(n)
	queue, err := newRiverClient(&riverWorker{
		client: client, targets: targets, pool: pool, turns: make(chan struct{}, s.requests), done: done,
	}, s, b.warnings)
	if err != nil {
		return run, err
	}
	if callers == 0 {
		if err := fillRiver(ctx, queue, targets, n); err != nil {
			return run, err
		}
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return run, err
	}
	runtime.GC()
	before, err := b.cpu(d.cpu)
	if err != nil {
		return run, err
	}
	began := time.Now()
	if err := queue.Start(ctx); err != nil {
		return run, err
	}
	if callers > 0 {
		run.calls, err = callAll(ctx, callers, n, func(ctx context.Context, i int) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := queue.InsertTx(ctx, tx, newRiverArgs(targets, i), nil)
				return err
			})
		})
	}
	if err == nil {
		err = done.wait(ctx)
	}
	if err == nil {
		err = awaitCompletion(ctx, pool)
	}
	elapsed := time.Since(began)
	after, cpuErr := b.cpu(d.cpu)
	stopErr := clearUp(ctx, "stop", queue.StopAndCancel)
	if err := errors.Join(err, cpuErr, stopErr); err != nil {
		return run, err
	}
	a, err := b.receiver.ask(question{})
	if err != nil {
		return run, err
	}
	var completed, logged int
	if err := pool.QueryRow(ctx, riverSucceeded).Scan(&completed, &logged); err != nil {
		return run, err
	}
	if completed != n || logged != n || a.Received != int64(n) {
		return run, fmt.Errorf("%w: of %d jobs, %d are completed and %d logged; the receiver got %d requests", errMissing, n, completed, logged, a.Received)
	}
	run.drainRun = drainRun{deliveries: n, elapsed: elapsed, cpu: after.minus(before), about: d.about, cpuUnknown: d.cpu == nil}
	return run, nil
}

func newRiverClient(w *riverWorker, s riverSettings, log *slog.Logger) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, w); err != nil {
		return nil, err
	}
	return river.NewClient(riverpgxv5.New(w.pool), &river.Config{
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: s.workers}},
		FetchCooldown:     s.cooldown,
		FetchPollInterval: s.poll,
		JobTimeout:        -1, // the request has its own; this spares River a timer for each job
		Workers:           workers,
		Logger:            log,
	})
}

// fillRiver inserts n jobs for the targets in turn.
func fillRiver(ctx context.Context, queue *river.Client[pgx.Tx], targets []target, n int) error {
	for first := 0; first < n; first += insertBatch {
		var jobs []river.InsertManyParams
		for i := first; i < min(first+insertBatch, n); i++ {
			jobs = append(jobs, river.InsertManyParams{Args: newRiverArgs(targets, i)})
		}
		if _, err := queue.InsertManyFast(ctx, jobs); err != nil {
			return fmt.Errorf("insert jobs: %w", err)
		}
	}
	return nil
}

// awaitCompletion returns when the completions of all jobs, which River writes
// in batches, are in the database.
func awaitCompletion(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var left int
		if err := pool.QueryRow(ctx, riverUnfinished).Scan(&left); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}
