// Package storetest is the conformance suite that every [webhook.Store] passes.
//
// Its subtests carry the numbers of the contract that is written at
// [webhook.Store]: when S9/GoesRoundTheWebhooks fails, clause S9 says what was
// promised. There are no switches: a store keeps the whole contract.
//
// The test of a store is two calls. This is memstore's:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) webhook.Store {
//			return memstore.New()
//		})
//	}
//
//	func TestTx(t *testing.T) {
//		storetest.RunTx(t, func(t *testing.T) (webhook.Store, func(*testing.T) storetest.Tx) {
//			s := memstore.New()
//			return s, func(*testing.T) storetest.Tx { return s.Begin() }
//		})
//	}
//
// # Where to begin
//
// Write CreateWebhook, InsertEvents, Deliveries, Delivery, Claim and Finish
// first: with these six S8 passes, and nearly all of S7 and S9. A struct that
// embeds a nil webhook.Store compiles meanwhile. What is missing panics, which
// fails the subtests that need it and ends no other one. Then take one clause
// after the other:
//
//	go test -run 'TestStore/S5$'
//	go test -run 'TestStore/S5$/AnOrganizationHasABound'
//
// In what a failure prints, an error of the store begins with the method that
// returned it, as in "the store's Claim: …". Most subtests publish, claim and
// finish to get to their point, so look at S7, S9 and S10 before the others.
//
// # Stores
//
// The function is called once for each subtest, from its goroutine, and returns
// an empty store that no other one shares: a new schema or file of a database,
// dropped by t.Cleanup. Subtests of a clause run in parallel, as many as
// go test's flag -parallel says, so a store that needs connections of its own
// may need a small number there.
//
// Run waits for nothing and reads no clock. Every moment is an argument,
// most of them on 1 January 2026, some in 2001 and in 2101. Where a store may
// let rows follow later, what reads show is checked both at once and after
// Sweep.
package storetest

import (
	"runtime/debug"
	"testing"

	"github.com/posthorn/webhook"
)

// test is one subtest, with a store of its own.
type test struct {
	name string
	run  func(*fixture)
}

// Run checks that the stores which newStore returns keep the contract, but for
// what concerns transactions of the host, see [RunTx]. Each store must be empty
// and used by nobody else.
func Run(t *testing.T, newStore func(t *testing.T) webhook.Store) {
	for _, clause := range []struct {
		name  string
		tests []test
	}{
		{"S1", s1()}, {"S2", s2()}, {"S3", s3()}, {"S4", s4()}, {"S5", s5()}, {"S6", s6()},
		{"S7", s7()}, {"S8", s8()}, {"S9", s9()}, {"S10", s10()}, {"S11", s11()}, {"S12", s12()},
		{"S13", s13()}, {"S14", s14()}, {"S15", s15()}, {"S16", s16()}, {"S17", s17()}, {"S18", s18()},
		{"S19", s19()}, {"S20", s20()}, {"S21", s21()}, {"S22", s22()}, {"S23", s23()},
		{"S24", s24()}, {"S25", s25()},
	} {
		t.Run(clause.name, func(t *testing.T) {
			for _, tc := range clause.tests {
				t.Run(tc.name, func(t *testing.T) {
					t.Parallel()
					guarded(t, func() { tc.run(newFixture(t, newStore(t))) })
				})
			}
		})
	}
}

// guarded runs a subtest. A store that panics, or one that returns so little
// that the subtest does, fails this clause and not the whole program: the others
// have something to say, too.
func guarded(t *testing.T, run func()) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	run()
}
