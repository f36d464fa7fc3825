// Uses two keyspaces of a cluster with API version 2 through TiKV's Go client, raw and in transactions, with the same keys in
// all four, while the leader of a region is killed and comes back. None may see another one's keys.
//
// Arguments and orders are those of ../main.go; the keyspaces are DEFAULT and mine.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
)

const count = 20

var (
	ctx    = context.Background()
	orders = bufio.NewReader(os.Stdin)
	checks int
)

func fail(format string, args ...any) {
	fmt.Printf("@failed "+format+"\n", args...)
	os.Exit(1)
}

// ok ends the program if a call failed.
func ok(what string, err error) {
	checks++
	if err != nil {
		fail("%s: %+v", what, err)
	}
}

// same compares one result with what is expected.
func same(what string, seen, expected any) {
	checks++
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

// steadfast repeats a call until it succeeds, as an application would.
func steadfast(what string, call func() error) {
	began := time.Now()
	for err := call(); err != nil; err = call() {
		if time.Since(began) > time.Minute {
			fail("%s: no success in a minute, the last error was %+v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	checks++
}

func key(n int) []byte { return []byte(fmt.Sprintf("k%02d", n)) }

// named returns keys and values in order.
func named(from, to int, of string) (keys, values [][]byte) {
	for n := from; n < to; n++ {
		keys = append(keys, key(n))
		values = append(values, []byte(fmt.Sprintf("%s %d", of, n)))
	}
	return keys, values
}

// reversed returns a list from its end.
func reversed(list [][]byte) [][]byte {
	turned := [][]byte{}
	for _, one := range list {
		turned = append([][]byte{one}, turned...)
	}
	return turned
}

// raw makes every raw call.
func raw(client *rawkv.Client, of string) {
	keys, values := named(0, count, of)
	ok("batch put", client.BatchPut(ctx, keys, values))
	value, err := client.Get(ctx, key(7))
	ok("get", err)
	same("get", value, values[7])
	some, err := client.BatchGet(ctx, [][]byte{key(3), []byte("none"), key(17)})
	ok("batch get", err)
	same("batch get", some, [][]byte{values[3], nil, values[17]})
	found, with, err := client.Scan(ctx, key(5), key(15), 100)
	ok("scan", err)
	same("scan", found, keys[5:15])
	same("scan", with, values[5:15])
	found, _, err = client.ReverseScan(ctx, key(15), key(5), 100)
	ok("reverse scan", err)
	same("reverse scan", found, reversed(keys[5:15]))
	ok("delete range", client.DeleteRange(ctx, key(4), key(12)))
	ok("batch delete", client.BatchDelete(ctx, [][]byte{key(12), key(13)}))
	ok("delete", client.Delete(ctx, key(14)))
	left, _, err := client.Scan(ctx, key(2), key(17), 100)
	ok("scan", err)
	same("scan after deletions", left, append(append([][]byte{}, keys[2:4]...), keys[15:17]...))
	ok("batch put", client.BatchPut(ctx, keys, values))
	ok("put with a TTL", client.PutWithTTL(ctx, []byte("short"), []byte("lived"), 600))
	ttl, err := client.GetKeyTTL(ctx, []byte("short"))
	ok("TTL", err)
	if ttl == nil || *ttl > 600 || *ttl < 500 {
		fail("a TTL of 600 is %v", ttl)
	}
	ok("delete", client.Delete(ctx, []byte("short")))
	client.SetAtomicForCAS(true)
	before, swapped, err := client.CompareAndSwap(ctx, key(0), []byte("other"), []byte("new"))
	ok("compare and swap", err)
	same("compare and swap", fmt.Sprint(string(before), swapped), fmt.Sprint(string(values[0]), false))
	_, swapped, err = client.CompareAndSwap(ctx, key(0), values[0], []byte("new"))
	ok("compare and swap", err)
	same("compare and swap", swapped, true)
	ok("put", client.Put(ctx, key(0), values[0]))
	client.SetAtomicForCAS(false)
}

// transactions commits in both modes, and meets a conflict.
func transactions(client *txnkv.Client, of string) {
	keys, values := named(0, count, of)
	txn, err := client.Begin()
	ok("begin", err)
	for n := range keys {
		ok("set", txn.Set(keys[n], values[n]))
	}
	ok("commit", txn.Commit(ctx))

	txn, err = client.Begin()
	ok("begin", err)
	txn.SetPessimistic(true)
	// One that has waited for another transaction's lock is told to ask again at a later timestamp.
	steadfast("lock", func() error {
		now, err := client.GetTimestamp(ctx)
		if err != nil {
			return err
		}
		return txn.LockKeys(ctx, kv.NewLockCtx(now, 2000, time.Now()), key(7))
	})
	value, err := txn.Get(ctx, key(7))
	ok("get", err)
	same("get", value, values[7])
	ok("delete", txn.Delete(key(7)))
	ok("commit", txn.Commit(ctx))

	one, err := client.Begin()
	ok("begin", err)
	other, err := client.Begin()
	ok("begin", err)
	ok("set", one.Set(key(3), values[3]))
	ok("set", other.Set(key(3), []byte("lost")))
	ok("commit", one.Commit(ctx))
	if err = other.Commit(ctx); !tikverr.IsErrWriteConflict(err) {
		fail("two writers of one key: %+v", err)
	}
}

// everything returns all keys and values of a transactional keyspace.
func everything(client *txnkv.Client) (keys, values [][]byte) {
	txn, err := client.Begin()
	ok("begin", err)
	iter, err := txn.Iter(nil, nil)
	for ; err == nil && iter.Valid(); err = iter.Next() {
		keys = append(keys, append([]byte{}, iter.Key()...))
		values = append(values, append([]byte{}, iter.Value()...))
	}
	ok("iterate", err)
	ok("rollback", txn.Rollback())
	return keys, values
}

func main() {
	addrs := strings.Split(os.Args[1], ",")
	began := time.Now()
	spaces := []string{"DEFAULT", "mine"}
	raws, txns := map[string]*rawkv.Client{}, map[string]*txnkv.Client{}
	for _, space := range spaces {
		steadfast("connect", func() (err error) {
			raws[space], err = rawkv.NewClientWithOpts(ctx, addrs, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V2), rawkv.WithKeyspace(space))
			return err
		})
		if space == spaces[0] {
			_, err := raws[space].Get(ctx, key(0))
			ok("the first get", err)
			fmt.Printf("@started %d ms\n", time.Since(began).Milliseconds())
		}
		steadfast("connect", func() (err error) {
			txns[space], err = txnkv.NewClient(addrs, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace(space))
			return err
		})
	}
	for _, space := range spaces {
		raw(raws[space], space)
		transactions(txns[space], space+" txn")
	}
	look := func() {
		for _, space := range spaces {
			keys, values := named(0, count, space)
			found, with, err := raws[space].Scan(ctx, nil, nil, 100)
			ok("scan of everything", err)
			same("raw keys of "+space, found, keys)
			same("raw values of "+space, with, values)
			keys, values = named(0, count, space+" txn")
			found, with = everything(txns[space])
			same("transactional keys of "+space, found, append(append([][]byte{}, keys[:7]...), keys[8:]...))
			same("transactional values of "+space, with, append(append([][]byte{}, values[:7]...), values[8:]...))
		}
	}
	look()

	if _, err := rawkv.NewClientWithOpts(ctx, addrs, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V2), rawkv.WithKeyspace("missing")); err == nil {
		fail("a keyspace that does not exist was opened")
	}
	checks++

	// A region of a keyspace loses its leader.
	starts := strings.Split(os.Args[2], ",")
	start := starts[len(starts)/2]
	if _, err := hex.DecodeString(start); err != nil || start == "" {
		fail("the starts of the regions: %q", starts)
	}
	ask("@kill " + start)
	for _, space := range spaces {
		keys, values := named(0, count, space)
		steadfast("put while a node is dead", func() error { return raws[space].BatchPut(ctx, keys, values) })
		steadfast("commit while a node is dead", func() error {
			txn, err := txns[space].Begin()
			if err != nil {
				return err
			}
			for n := range keys {
				if n != 7 {
					if err := txn.Set(keys[n], []byte(fmt.Sprintf("%s txn %d", space, n))); err != nil {
						return err
					}
				}
			}
			return txn.Commit(ctx)
		})
	}
	look()
	ask("@restart")
	look()
	fmt.Printf("@done %d checks\n", checks)
}
