// Runs transactions of TiKV's Go client over several regions, in every mode, and compares what they read with a model; then
// transfers money between accounts while a region is split and its leader is killed, and looks at the sum.
//
// Arguments and orders are those of ../main.go.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

const (
	accounts = 12
	first    = 100
)

var (
	ctx     = context.Background()
	orders  = bufio.NewReader(os.Stdin)
	regions [][]byte
	checks  atomic.Int64
)

func fail(format string, args ...any) {
	fmt.Printf("@failed "+format+"\n", args...)
	os.Exit(1)
}

// ok ends the program if a call failed.
func ok(what string, err error) {
	checks.Add(1)
	if err != nil {
		fail("%s: %+v", what, err)
	}
}

// same compares one result with what is expected.
func same(what string, seen, expected any) {
	checks.Add(1)
	if s, e := fmt.Sprintf("%q", seen), fmt.Sprintf("%q", expected); s != e {
		fail("%s: saw %.2000s, expected %.2000s", what, s, e)
	}
}

// ask sends one command to the test and waits until it is carried out.
func ask(order string) {
	fmt.Println(order)
	answer, err := orders.ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "ok" {
		fail("%s: %q %v", order, answer, err)
	}
}

// mode is how a transaction locks and commits.
type mode struct{ pessimistic, async, onePhase bool }

func (m mode) String() string {
	name := "optimistic"
	if m.pessimistic {
		name = "pessimistic"
	}
	switch {
	case m.onePhase:
		return name + ", one phase"
	case m.async:
		return name + ", async"
	}
	return name + ", two phases"
}

func modes() []mode {
	all := []mode{}
	for _, pessimistic := range []bool{false, true} {
		all = append(all, mode{pessimistic, false, false}, mode{pessimistic, true, false}, mode{pessimistic, true, true})
	}
	return all
}

func begin(client *txnkv.Client, m mode) (*transaction.KVTxn, error) {
	txn, err := client.Begin()
	if err != nil {
		return nil, err
	}
	txn.SetPessimistic(m.pessimistic)
	txn.SetEnableAsyncCommit(m.async)
	txn.SetEnable1PC(m.onePhase)
	return txn, nil
}

// lock locks keys of a pessimistic transaction at the present, and waits for others at most two seconds.
func lock(client *txnkv.Client, txn *transaction.KVTxn, keys ...[]byte) error {
	if !txn.IsPessimistic() {
		return nil
	}
	for {
		now, err := client.GetTimestamp(ctx)
		if err != nil {
			return err
		}
		err = txn.LockKeys(ctx, kv.NewLockCtx(now, 2000, time.Now()), keys...)
		// Somebody wrote since: what is read next must not be older.
		if !tikverr.IsErrWriteConflict(err) {
			return err
		}
	}
}

func must(client *txnkv.Client, m mode) *transaction.KVTxn {
	txn, err := begin(client, m)
	ok(m.String()+": begin", err)
	return txn
}

// key returns a key in the region that begins at start; the bytes are beyond those of its first raw keys.
func key(start []byte, name string) []byte {
	return append(append([]byte{}, start...), "\x02go/"+name...)
}

func list(pairs map[string]string) []string {
	all := []string{}
	for key, value := range pairs {
		all = append(all, key+"="+value)
	}
	sort.Strings(all)
	return all
}

// read returns what a new transaction sees of keys, by each of the ways to read.
func read(client *txnkv.Client, what string, keys [][]byte, expected map[string]string) {
	txn := must(client, mode{})
	one := map[string]string{}
	for _, key := range keys {
		value, err := txn.Get(ctx, key)
		if tikverr.IsErrNotFound(err) {
			continue
		}
		ok(what+": get", err)
		one[string(key)] = string(value)
	}
	same(what+": get", list(one), list(expected))
	found, err := txn.BatchGet(ctx, keys)
	ok(what+": batch get", err)
	many := map[string]string{}
	for key, value := range found {
		many[key] = string(value)
	}
	same(what+": batch get", list(many), list(expected))
	// Keys of other modes lie between.
	asked := map[string]bool{}
	for _, key := range keys {
		asked[string(key)] = true
	}
	low, high := keys[0], append(append([]byte{}, keys[len(keys)-1]...), 0)
	up, err := txn.Iter(low, high)
	ok(what+": iterator", err)
	ranged := []string{}
	for up.Valid() {
		if asked[string(up.Key())] {
			ranged = append(ranged, string(up.Key())+"="+string(up.Value()))
		}
		ok(what+": next", up.Next())
	}
	same(what+": up", ranged, list(expected))
	down, err := txn.IterReverse(high)
	ok(what+": reverse iterator", err)
	back := []string{}
	for down.Valid() && string(down.Key()) >= string(low) {
		if asked[string(down.Key())] {
			back = append([]string{string(down.Key()) + "=" + string(down.Value())}, back...)
		}
		ok(what+": next", down.Next())
	}
	same(what+": down", back, list(expected))
	ok(what+": rollback", txn.Rollback())
}

// everything runs a transaction's calls in one mode.
func everything(client *txnkv.Client, m mode, number int) {
	what := m.String()
	keys := [][]byte{}
	for _, start := range regions {
		for n := 0; n < 3; n++ {
			keys = append(keys, key(start, fmt.Sprintf("%d/%d", number, n)))
		}
	}
	sort.Slice(keys, func(a, b int) bool { return string(keys[a]) < string(keys[b]) })
	before := must(client, mode{}).StartTS()
	expected := map[string]string{}
	txn := must(client, m)
	ok(what+": lock", lock(client, txn, keys...))
	for at, key := range keys {
		value := fmt.Sprintf("%s %d%s", what, at, strings.Repeat(".", at%2*400))
		ok(what+": set", txn.Set(key, []byte(value)))
		expected[string(key)] = value
	}
	own, err := txn.Get(ctx, keys[1])
	ok(what+": own value", err)
	same(what+": own value", string(own), expected[string(keys[1])])
	_, err = must(client, mode{}).Get(ctx, keys[1])
	same(what+": others see nothing yet", tikverr.IsErrNotFound(err), true)
	ok(what+": commit", txn.Commit(ctx))
	read(client, what, keys, expected)
	between := must(client, mode{}).StartTS()

	// In one region: a candidate for one phase.
	txn = must(client, m)
	ok(what+": lock", lock(client, txn, keys[0], keys[1]))
	ok(what+": delete", txn.Delete(keys[0]))
	ok(what+": set", txn.Set(keys[1], []byte("again")))
	ok(what+": commit", txn.Commit(ctx))
	after := map[string]string{}
	for key, value := range expected {
		after[key] = value
	}
	delete(after, string(keys[0]))
	after[string(keys[1])] = "again"
	read(client, what+", changed", keys, after)

	// A transaction that is given up leaves nothing.
	txn = must(client, m)
	ok(what+": lock", lock(client, txn, keys[2]))
	ok(what+": set", txn.Set(keys[2], []byte("never")))
	ok(what+": rollback", txn.Rollback())
	read(client, what+", after a rollback", keys, after)

	conflict(client, m, keys[2])
	after[string(keys[2])] = "second"
	read(client, what+", after a conflict", keys, after)

	past(client, what, keys, before, map[string]string{})
	past(client, what, keys, between, expected)
}

// conflict lets two transactions write one key: one of the optimistic ones fails, the pessimistic one waits.
func conflict(client *txnkv.Client, m mode, key []byte) {
	what := m.String() + ", conflict"
	one, other := must(client, m), must(client, m)
	ok(what, lock(client, one, key))
	ok(what, one.Set(key, []byte("first")))
	ok(what, other.Set(key, []byte("second")))
	if !m.pessimistic {
		ok(what, other.Commit(ctx))
		err := one.Commit(ctx)
		same(what+": the later commit", tikverr.IsErrWriteConflict(err), true)
		return
	}
	done := make(chan error)
	go func() {
		err := lock(client, other, key)
		if err == nil {
			err = other.Commit(ctx)
		}
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	ok(what, one.Commit(ctx))
	ok(what+": whoever waits", <-done)
}

// past reads as of a moment that has passed: from the leader, from followers, and without asking anybody.
func past(client *txnkv.Client, what string, keys [][]byte, at uint64, expected map[string]string) {
	for _, how := range []string{"leader", "follower", "mixed", "stale"} {
		snapshot := client.GetSnapshot(at)
		switch how {
		case "follower":
			snapshot.SetReplicaRead(kv.ReplicaReadFollower)
		case "mixed":
			snapshot.SetReplicaRead(kv.ReplicaReadMixed)
		case "stale":
			snapshot.SetReplicaRead(kv.ReplicaReadMixed)
			snapshot.SetIsStalenessReadOnly(true)
		}
		found, err := snapshot.BatchGet(ctx, keys)
		ok(what+": "+how, err)
		many := map[string]string{}
		for key, value := range found {
			many[key] = string(value)
		}
		same(what+": past by "+how, list(many), list(expected))
	}
}

func account(n int) []byte {
	return key(regions[n%len(regions)], fmt.Sprintf("account/%02d", n))
}

// transfer moves an amount from one account to another.
func transfer(client *txnkv.Client, m mode, from, to, amount int) error {
	txn, err := begin(client, m)
	if err != nil {
		return err
	}
	if err = move(client, txn, from, to, amount); err != nil {
		// What is left of it is ended by others.
		_ = txn.Rollback()
	}
	return err
}

func move(client *txnkv.Client, txn *transaction.KVTxn, from, to, amount int) error {
	if err := lock(client, txn, account(from), account(to)); err != nil {
		return err
	}
	for n, change := range map[int]int{from: -amount, to: amount} {
		value, err := get(client, txn, account(n))
		if err != nil {
			return err
		}
		balance, err := strconv.Atoi(string(value))
		if err != nil {
			return err
		}
		if err = txn.Set(account(n), []byte(strconv.Itoa(balance+change))); err != nil {
			return err
		}
	}
	return txn.Commit(ctx)
}

// get reads what is newest of a locked key, or what the transaction's snapshot shows.
func get(client *txnkv.Client, txn *transaction.KVTxn, key []byte) ([]byte, error) {
	if !txn.IsPessimistic() {
		return txn.Get(ctx, key)
	}
	now, err := client.GetTimestamp(ctx)
	if err != nil {
		return nil, err
	}
	return client.GetSnapshot(now).Get(ctx, key)
}

// sum returns what all accounts have together at a new transaction's start; -1 if it could not be read.
func sum(client *txnkv.Client) int {
	txn, err := client.Begin()
	if err != nil {
		return -1
	}
	defer txn.Rollback()
	keys := [][]byte{}
	for n := 0; n < accounts; n++ {
		keys = append(keys, account(n))
	}
	found, err := txn.BatchGet(ctx, keys)
	if err != nil {
		return -1
	}
	total := 0
	for _, value := range found {
		balance, _ := strconv.Atoi(string(value))
		total += balance
	}
	return total
}

// bank transfers money while regions are split and a leader is killed.
func bank(client *txnkv.Client) {
	txn := must(client, mode{})
	for n := 0; n < accounts; n++ {
		ok("an account", txn.Set(account(n), []byte(strconv.Itoa(first))))
	}
	ok("the accounts", txn.Commit(ctx))
	var done sync.WaitGroup
	stop := make(chan struct{})
	var transfers atomic.Int64
	for worker, m := range modes() {
		done.Add(1)
		go func(m mode, rng *rand.Rand) {
			defer done.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				from := rng.Intn(accounts)
				to := (from + 1 + rng.Intn(accounts-1)) % accounts
				// Failures are conflicts, or a lost leader; an unknown outcome moves the money or does not.
				if transfer(client, m, from, to, 1+rng.Intn(9)) == nil {
					transfers.Add(1)
				}
			}
		}(m, rand.New(rand.NewSource(int64(worker))))
	}
	until := func(count int64) {
		began := time.Now()
		for wanted := transfers.Load() + count; transfers.Load() < wanted; {
			if time.Since(began) > time.Minute {
				fail("%d transfers in a minute", transfers.Load()+count-wanted)
			}
			if total := sum(client); total != -1 {
				same("the sum", total, accounts*first)
			}
		}
	}
	until(40)
	_, err := client.SplitRegions(ctx, [][]byte{key(regions[1], "account/05")}, false, nil)
	ok("split", err)
	until(40)
	ask("@kill " + hex.EncodeToString(regions[1]))
	until(40)
	ask("@restart")
	until(40)
	close(stop)
	done.Wait()
	began := time.Now()
	for sum(client) == -1 {
		if time.Since(began) > time.Minute {
			fail("the accounts cannot be read")
		}
	}
	same("the sum at the end", sum(client), accounts*first)
}

func main() {
	if len(os.Args) != 3 {
		fail("arguments: ADDRESS,... HEXKEY,...")
	}
	for _, text := range strings.Split(os.Args[2], ",") {
		start, err := hex.DecodeString(text)
		ok("a region's first key", err)
		regions = append(regions, start)
	}
	began := time.Now()
	client, err := txnkv.NewClient(strings.Split(os.Args[1], ","))
	ok("new client", err)
	_, err = client.GetTimestamp(ctx)
	ok("a timestamp", err)
	fmt.Printf("@started %d ms\n", time.Since(began).Milliseconds())
	for number, m := range modes() {
		everything(client, m, number)
	}
	safe := client.GetMinSafeTS(oracle.GlobalTxnScope)
	same("the safe time is of the past", safe <= must(client, mode{}).StartTS(), true)
	bank(client)
	ok("close", client.Close())
	fmt.Printf("@done %d checks\n", checks.Load())
}
