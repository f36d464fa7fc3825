// Compares every raw call of TiKV's Go client, over several regions, with a model.
//
// The test (tests/clients.rs) starts the program with two arguments: the addresses of all nodes, and the first keys of all regions
// in hex, both separated by commas. The program requests faults on its standard output ("@kill HEXKEY", "@restart") and waits
// for a line on its standard input; it ends with "@done N checks". CLIENT_LOSES_STORES: see the end of failover.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/rawkv"
)

var (
	ctx     = context.Background()
	orders  = bufio.NewReader(os.Stdin)
	regions [][]byte
	checks  int
)

// pair is a key with its value.
type pair struct{ key, value string }

// model is what the cluster should hold.
type model map[string]string

// sorted returns the pairs of [low, high) in order; an empty high is plus infinity.
func (m model) sorted(low, high string) []pair {
	pairs := []pair{}
	for key, value := range m {
		if low <= key && (high == "" || key < high) {
			pairs = append(pairs, pair{key, value})
		}
	}
	sort.Slice(pairs, func(a, b int) bool { return pairs[a].key < pairs[b].key })
	return pairs
}

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

// same compares one result with the model.
func same(what string, seen, expected any) {
	checks++
	s, e := fmt.Sprintf("%q", seen), fmt.Sprintf("%q", expected)
	if s != e {
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

// steadfast retries a call until it succeeds, as an application would.
func steadfast(what string, call func() error) {
	began := time.Now()
	for {
		err := call()
		if err == nil {
			checks++
			return
		}
		if time.Since(began) > time.Minute {
			fail("%s: no success in a minute, the last error was %+v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// key returns a key in the region that begins at start; the byte keeps keys of the first region below the second one's start.
func key(start []byte, name string) []byte {
	return append(append([]byte{}, start...), "\x01go/"+name...)
}

// spread returns count keys in every region, in order.
func spread(count int, tag string) [][]byte {
	keys := [][]byte{}
	for _, start := range regions {
		for n := 0; n < count; n++ {
			keys = append(keys, key(start, fmt.Sprintf("%s/%04d", tag, n)))
		}
	}
	sort.Slice(keys, func(a, b int) bool { return bytes.Compare(keys[a], keys[b]) < 0 })
	return keys
}

func pairs(keys, values [][]byte) []pair {
	found := []pair{}
	for at := range keys {
		found = append(found, pair{string(keys[at]), string(values[at])})
	}
	return found
}

func reversed(pairs []pair) []pair {
	back := make([]pair, 0, len(pairs))
	for at := len(pairs) - 1; at >= 0; at-- {
		back = append(back, pairs[at])
	}
	return back
}

func newClient(addrs []string) *rawkv.Client {
	client, err := rawkv.NewClient(ctx, addrs, config.DefaultConfig().Security)
	ok("new client", err)
	return client
}

func main() {
	if len(os.Args) != 3 {
		fail("arguments: ADDRESS,... HEXKEY,...")
	}
	addrs := strings.Split(os.Args[1], ",")
	for _, text := range strings.Split(os.Args[2], ",") {
		start, err := hex.DecodeString(text)
		ok("a region's first key", err)
		regions = append(regions, start)
	}
	// The last region is a sentinel at the very end; clients' keys are before it.
	if len(regions) > 1 {
		regions = regions[:len(regions)-1]
	}

	began := time.Now()
	client := newClient(addrs)
	_, err := client.Get(ctx, []byte("go/first"))
	ok("the first get", err)
	fmt.Printf("@started %d ms\n", time.Since(began).Milliseconds())
	atomic := newClient(addrs).SetAtomicForCAS(true)
	ok("delete everything", client.DeleteRange(ctx, []byte(""), []byte{0xff}))

	single(client)
	timeToLive(client)
	many(client)
	swaps(client, atomic)
	tooLarge(client)
	failover(client, atomic)

	ok("delete everything", client.DeleteRange(ctx, []byte(""), []byte{0xff}))
	keys, _, err := client.Scan(ctx, []byte(""), []byte{0xff}, 1000)
	ok("scan", err)
	same("nothing is left", len(keys), 0)
	ok("close", client.Close())
	ok("close", atomic.Close())
	fmt.Printf("@done %d checks\n", checks)
}

func single(client *rawkv.Client) {
	for _, start := range append([][]byte{{}}, regions...) {
		k := key(start, "one")
		value, err := client.Get(ctx, k)
		ok("get of an absent key", err)
		same("an absent key", value == nil, true)
		ok("put", client.Put(ctx, k, []byte("1")))
		value, err = client.Get(ctx, k)
		ok("get", err)
		same("get", value, []byte("1"))
		ok("delete", client.Delete(ctx, k))
		value, err = client.Get(ctx, k)
		ok("get of a deleted key", err)
		same("a deleted key", value == nil, true)
		ok("delete of an absent key", client.Delete(ctx, k))
	}
	k := key(regions[0], "family")
	for _, family := range []string{"default", "lock", "write"} {
		ok("put", client.Put(ctx, k, []byte(family), rawkv.SetColumnFamily(family)))
	}
	for _, family := range []string{"default", "lock", "write"} {
		value, err := client.Get(ctx, k, rawkv.SetColumnFamily(family))
		ok("get", err)
		same("column families do not see each other", value, []byte(family))
		ok("delete", client.Delete(ctx, k, rawkv.SetColumnFamily(family)))
	}
}

func timeToLive(client *rawkv.Client) {
	k := key(regions[len(regions)-1], "ttl")
	ttl, err := client.GetKeyTTL(ctx, k)
	ok("ttl", err)
	same("the ttl of an absent key", ttl == nil, true)
	ok("put with a ttl", client.PutWithTTL(ctx, k, []byte("v"), 1000))
	ttl, err = client.GetKeyTTL(ctx, k)
	ok("ttl", err)
	same("the ttl", ttl != nil && 900 < *ttl && *ttl <= 1000, true)
	ok("put", client.Put(ctx, k, []byte("v")))
	ttl, err = client.GetKeyTTL(ctx, k)
	ok("ttl", err)
	same("a put without a ttl clears it", ttl != nil && *ttl == 0, true)
	ok("put with a ttl", client.PutWithTTL(ctx, k, []byte("v"), 1))
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		value, err := client.Get(ctx, k)
		ok("get", err)
		if value == nil {
			break
		}
		if time.Since(began) > time.Minute {
			fail("a key with a ttl of 1 s does not expire")
		}
	}
	keys := spread(1, "ttls")
	values, ttls := [][]byte{}, []uint64{}
	for at := range keys {
		values, ttls = append(values, []byte("v")), append(ttls, uint64(500+at))
	}
	ok("batch put with ttls", client.BatchPutWithTTL(ctx, keys, values, ttls))
	for at, k := range keys {
		ttl, err := client.GetKeyTTL(ctx, k)
		ok("ttl", err)
		same("each key has its own ttl", ttl != nil && 400 < *ttl && *ttl <= ttls[at], true)
	}
	ok("batch delete", client.BatchDelete(ctx, keys))
}

func many(client *rawkv.Client) {
	m := model{}
	keys := spread(50, "many")
	for n := 0; n < 1300; n++ {
		keys = append(keys, key(regions[len(regions)-1], fmt.Sprintf("page/%05d", n)))
	}
	values := [][]byte{}
	for _, k := range keys {
		value := "value of " + string(k)
		values, m[string(k)] = append(values, []byte(value)), value
	}
	ok("batch put", client.BatchPut(ctx, keys, values))
	got, err := client.BatchGet(ctx, append(keys, []byte("no such key")))
	ok("batch get", err)
	same("batch get", got, append(values, nil))

	scan := func(low, high string, limit int) []pair {
		keys, values, err := client.Scan(ctx, []byte(low), []byte(high), limit)
		ok("scan", err)
		return pairs(keys, values)
	}
	all := m.sorted("", "")
	last := all[len(all)-1].key + "\x00"
	same("scan", scan("", last, 10000), all)
	same("scan with a limit", scan("", last, 17), all[:17])
	same("scan nothing", scan("b", "a", 10), []pair{})
	keys, _, err = client.Scan(ctx, []byte(""), []byte(last), 10000, rawkv.ScanKeyOnly())
	ok("scan of keys", err)
	same("scan of keys", len(keys), len(all))
	for at := 0; at < len(all); at += 97 {
		low, high := all[at].key, all[min(at+200, len(all)-1)].key
		same("scan of a range", scan(low, high, 10000), m.sorted(low, high))
		keys, values, err := client.ReverseScan(ctx, []byte(high), []byte(low), 10000)
		ok("reverse scan", err)
		same("reverse scan of a range", pairs(keys, values), reversed(m.sorted(low, high)))
	}

	sum, err := client.Checksum(ctx, []byte(all[0].key), []byte(last))
	ok("checksum", err)
	var crc, size uint64
	table := crc64.MakeTable(crc64.ECMA)
	for _, p := range all {
		crc ^= crc64.Checksum([]byte(p.key+p.value), table)
		size += uint64(len(p.key) + len(p.value))
	}
	same("checksum", []uint64{sum.Crc64Xor, sum.TotalKvs, sum.TotalBytes}, []uint64{crc, uint64(len(all)), size})

	gone := [][]byte{}
	for at := 0; at < len(all); at += 4 {
		gone = append(gone, []byte(all[at].key))
		delete(m, all[at].key)
	}
	ok("batch delete", client.BatchDelete(ctx, gone))
	same("batch delete", scan("", last, 10000), m.sorted("", ""))
	all = m.sorted("", "")
	low, high := all[len(all)/8].key, all[len(all)*3/4].key
	ok("delete range", client.DeleteRange(ctx, []byte(low), []byte(high)))
	for _, p := range m.sorted(low, high) {
		delete(m, p.key)
	}
	same("delete range across regions", scan("", last, 10000), m.sorted("", ""))
	ok("delete range", client.DeleteRange(ctx, []byte(""), []byte(last)))
	same("nothing is left", scan("", last, 10), []pair{})
}

func swaps(client, atomic *rawkv.Client) {
	_, _, err := client.CompareAndSwap(ctx, []byte("k"), nil, []byte("v"))
	checks++
	if err == nil {
		fail("the client wants to be told before it swaps")
	}
	for _, start := range regions {
		k := key(start, "swap")
		swap := func(before, after string, done bool, previous string) {
			var expected []byte
			if before != "" {
				expected = []byte(before)
			}
			value, swapped, err := atomic.CompareAndSwap(ctx, k, expected, []byte(after))
			ok("swap", err)
			same("swap of "+before+" for "+after, []string{strconv.FormatBool(swapped), string(value)}, []string{strconv.FormatBool(done), previous})
		}
		swap("x", "y", false, "")
		swap("", "1", true, "")
		swap("", "2", false, "1")
		swap("1", "2", true, "1")
		swap("1", "3", false, "2")
		ok("put", atomic.Put(ctx, k, []byte("4")))
		swap("4", "5", true, "4")
		ok("delete", atomic.Delete(ctx, k))
		swap("", "6", true, "")
		ok("batch put", atomic.BatchPut(ctx, [][]byte{k}, [][]byte{[]byte("7")}))
		swap("7", "8", true, "7")
		ok("batch delete", atomic.BatchDelete(ctx, [][]byte{k}))
	}
	counter := key(regions[len(regions)/2], "counter")
	ok("put", atomic.Put(ctx, counter, []byte("0")))
	var group sync.WaitGroup
	failed := make(chan error, 4)
	for worker := 0; worker < 4; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for done := 0; done < 25; {
				now, err := atomic.Get(ctx, counter)
				if err != nil {
					failed <- err
					return
				}
				n, _ := strconv.Atoi(string(now))
				_, swapped, err := atomic.CompareAndSwap(ctx, counter, now, []byte(strconv.Itoa(n+1)))
				if err != nil {
					failed <- err
					return
				}
				if swapped {
					done++
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-failed:
		fail("a counter moved by swaps: %+v", err)
	default:
	}
	value, err := atomic.Get(ctx, counter)
	ok("get", err)
	same("a counter moved by swaps", value, []byte("100"))
	ok("delete", atomic.Delete(ctx, counter))
}

func tooLarge(client *rawkv.Client) {
	large := bytes.Repeat([]byte("v"), 5<<20)
	ok("put of a large value", client.Put(ctx, key(regions[0], "large"), large))
	value, err := client.Get(ctx, key(regions[0], "large"))
	ok("get of a large value", err)
	same("a large value", bytes.Equal(value, large), true)
	ok("delete", client.Delete(ctx, key(regions[0], "large")))
	checks++
	if client.Put(ctx, bytes.Repeat([]byte("k"), 9000), []byte("v")) == nil {
		fail("a key that is too long was taken")
	}
}

// failover runs calls while the leader of a region is killed.
func failover(client, atomic *rawkv.Client) {
	keys := spread(40, "failover")
	m := model{}
	for _, k := range keys[:len(keys)/2] {
		ok("put", client.Put(ctx, k, []byte("before")))
		m[string(k)] = "before"
	}
	// Writers and a reader that run meanwhile.
	stop, failed := make(chan struct{}), make(chan error, len(regions))
	var group sync.WaitGroup
	for _, start := range regions {
		group.Add(1)
		go func(k []byte) {
			defer group.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				value := []byte(strconv.Itoa(n))
				for began := time.Now(); client.Put(ctx, k, value) != nil; {
					if time.Since(began) > time.Minute {
						failed <- fmt.Errorf("no put of %q in a minute", k)
						return
					}
				}
				// One writer per key: its last write must be there.
				for began := time.Now(); ; {
					seen, err := client.Get(ctx, k)
					if err == nil && !bytes.Equal(seen, value) {
						failed <- fmt.Errorf("%q is %q after a put of %q", k, seen, value)
						return
					}
					if err == nil {
						break
					}
					if time.Since(began) > time.Minute {
						failed <- fmt.Errorf("no get of %q in a minute: %w", k, err)
						return
					}
				}
			}
		}(key(start, "writer"))
	}
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	ask("@kill " + hex.EncodeToString(keys[0]))
	for _, k := range keys {
		value := "after " + string(k)
		steadfast("put after the leader died", func() error { return client.Put(ctx, k, []byte(value)) })
		m[string(k)] = value
	}
	fmt.Printf("every region took a write %d ms after the leader died\n", time.Since(began).Milliseconds())
	time.Sleep(500 * time.Millisecond)
	close(stop)
	group.Wait()
	select {
	case err := <-failed:
		fail("%+v", err)
	default:
	}
	check := func(when string) {
		steadfast("batch get "+when, func() error {
			values, err := client.BatchGet(ctx, keys)
			if err == nil {
				for at, k := range keys {
					same("batch get "+when, string(values[at]), m[string(k)])
				}
			}
			return err
		})
		low, high := string(keys[0]), string(keys[len(keys)-1])+"\x00"
		steadfast("scan "+when, func() error {
			found, values, err := client.Scan(ctx, []byte(low), []byte(high), 10000)
			if err == nil {
				seen := []pair{}
				for _, p := range pairs(found, values) {
					if strings.Contains(p.key, "failover") {
						seen = append(seen, p)
					}
				}
				same("scan "+when, seen, m.sorted(low, high))
			}
			return err
		})
	}
	check("after the leader died")
	k := key(regions[0], "swap")
	steadfast("delete", func() error { return atomic.Delete(ctx, k) })
	steadfast("swap after the leader died", func() error {
		_, swapped, err := atomic.CompareAndSwap(ctx, k, nil, []byte("1"))
		if err == nil && !swapped {
			// An attempt whose reply was lost may have taken effect.
			value, err := atomic.Get(ctx, k)
			ok("get", err)
			same("swap after the leader died", value, []byte("1"))
		}
		return err
	})
	if os.Getenv("CLIENT_LOSES_STORES") != "" {
		fmt.Println("this version never talks again to a store that it lost: the killed node stays away")
		return
	}
	ask("@restart")
	check("after the restart")
}
