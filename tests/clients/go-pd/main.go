// The calls of the newest Go client of PD, its own and those for client-go: regions by the stream of lookups, ranges, stores,
// timestamps, the state of garbage collection, other services' keys.
//
// The test (tests/clients.rs) starts the program like the one in ../go, with the same arguments and the same commands.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/clients/gc"
	"github.com/tikv/pd/client/clients/router"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
)

// nullKeyspace holds all keys that belong to no keyspace.
const nullKeyspace = 0xffffffff

var (
	// The client limits each call to 3 s.
	ctx    = context.Background()
	orders = bufio.NewReader(os.Stdin)
	starts [][]byte
	checks int
)

func fail(format string, args ...any) {
	fmt.Printf("@failed "+format+"\n", args...)
	os.Exit(1)
}

func ok(what string, err error) {
	checks++
	if err != nil {
		fail("%s: %+v", what, err)
	}
}

func same(what string, seen, expected any) {
	checks++
	s, e := fmt.Sprintf("%v", seen), fmt.Sprintf("%v", expected)
	if s != e {
		fail("%s: saw %.2000s, expected %.2000s", what, s, e)
	}
}

func ask(order string) {
	fmt.Println(order)
	answer, err := orders.ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "ok" {
		fail("%s: %q %v", order, answer, err)
	}
}

func newClient(addrs []string, opts ...opt.ClientOption) pd.Client {
	client, err := pd.NewClient(caller.TestComponent, addrs, pd.SecurityOption{}, opts...)
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
		starts = append(starts, start)
	}
	began := time.Now()
	client := newClient(addrs)
	_, err := client.GetRegion(ctx, []byte("first"))
	ok("the first region", err)
	fmt.Printf("@started %d ms\n", time.Since(began).Milliseconds())

	regions(client)
	// The same results from single calls, which older clients use.
	single := newClient(addrs, opt.WithEnableRouterClient(false))
	regions(single)
	stores(client)
	timestamps(client, 2000)
	collection(client)
	keysOfOthers(client)

	ask("@kill " + hex.EncodeToString(starts[1]))
	// Timestamps and regions recover by themselves, whatever the killed node served.
	until := time.Now().Add(time.Minute)
	for _, start := range starts {
		for {
			region, err := client.GetRegion(ctx, start)
			if err == nil && region != nil && region.Leader.GetId() != 0 {
				same("the region's start", bytes.Compare(region.Meta.StartKey, start), 0)
				break
			}
			if time.Now().After(until) {
				fail("no region of %q in a minute: %v %+v", start, region, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for {
		if _, _, err := client.GetTS(ctx); err == nil {
			break
		} else if time.Now().After(until) {
			fail("no timestamp in a minute: %+v", err)
		}
	}
	timestamps(client, 500)
	ask("@restart")
	regions(client)
	client.Close()
	single.Close()
	fmt.Printf("@done %d checks\n", checks)
}

// at compares a region with the one that begins with starts[index].
func at(what string, region *router.Region, index int) {
	checks++
	if region == nil || region.Meta == nil {
		fail("%s: no region", what)
	}
	end := []byte{}
	if index+1 < len(starts) {
		end = starts[index+1]
	}
	same(what+": start", region.Meta.StartKey, starts[index])
	same(what+": end", append([]byte{}, region.Meta.EndKey...), end)
	leads := false
	for _, peer := range region.Meta.Peers {
		leads = leads || (peer.Id == region.Leader.GetId() && peer.StoreId == region.Leader.GetStoreId())
	}
	same(what+": its leader is one of its peers", leads, true)
}

func regions(client pd.Client) {
	for index, start := range starts {
		region, err := client.GetRegion(ctx, start)
		ok("region", err)
		at("region of its first key", region, index)
		region, err = client.GetRegion(ctx, append(append([]byte{}, start...), 1))
		ok("region", err)
		at("region of a key", region, index)
		region, err = client.GetRegionByID(ctx, region.Meta.Id)
		ok("region by id", err)
		at("region by id", region, index)
		region, err = client.GetPrevRegion(ctx, start)
		ok("region before", err)
		if index > 0 {
			at("region before", region, index-1)
		} else {
			same("nothing is before the first region", region == nil, true)
		}
	}
	region, err := client.GetRegionByID(ctx, 1<<40)
	ok("no such region", err)
	same("no such region", region == nil, true)

	// Many at once: the client batches them into few requests.
	var group sync.WaitGroup
	wrong := make(chan string, 1)
	for worker := 0; worker < 16; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := 0; n < 100; n++ {
				start := starts[(worker+n)%len(starts)]
				region, err := client.GetRegion(ctx, start)
				if err != nil || region == nil || !bytes.Equal(region.Meta.StartKey, start) {
					select {
					case wrong <- fmt.Sprintf("region of %q: %v %+v", start, region, err):
					default:
					}
				}
			}
		}()
	}
	group.Wait()
	checks++
	select {
	case what := <-wrong:
		fail("%s", what)
	default:
	}

	all, err := client.ScanRegions(ctx, nil, nil, 0) //nolint:staticcheck
	ok("scan", err)
	same("scan", len(all), len(starts))
	for index, region := range all {
		at("scan", region, index)
	}
	some, err := client.ScanRegions(ctx, append(append([]byte{}, starts[1]...), 1), nil, 2) //nolint:staticcheck
	ok("scan", err)
	same("scan with a limit", len(some), 2)
	at("scan from the region that holds the key", some[0], 1)

	ranges := []router.KeyRange{{StartKey: nil, EndKey: starts[1]}, {StartKey: starts[1], EndKey: nil}}
	all, err = client.BatchScanRegions(ctx, ranges, 0, opt.WithOutputMustContainAllKeyRange())
	ok("batch scan", err)
	same("batch scan", len(all), len(starts))
	for index, region := range all {
		at("batch scan", region, index)
	}
	key := func(index int, last byte) []byte { return append(append([]byte{}, starts[index]...), last) }
	ranges = []router.KeyRange{
		{StartKey: key(0, 1), EndKey: key(0, 2)},
		{StartKey: key(0, 3), EndKey: key(1, 1)},
		{StartKey: key(1, 2), EndKey: key(1, 3)},
	}
	some, err = client.BatchScanRegions(ctx, ranges, 0, opt.WithOutputMustContainAllKeyRange())
	ok("batch scan", err)
	same("each region once", len(some), 2)
	some, err = client.BatchScanRegions(ctx, ranges, 1)
	ok("batch scan", err)
	same("batch scan with a limit", len(some), 1)
	checks++
	ranges = []router.KeyRange{{StartKey: []byte("b"), EndKey: []byte("c")}, {StartKey: []byte("a"), EndKey: []byte("b")}}
	if _, err := client.BatchScanRegions(ctx, ranges, 0); err == nil {
		fail("ranges in disorder were taken")
	}
}

func stores(client pd.Client) {
	all, err := client.GetAllStores(ctx)
	ok("stores", err)
	same("stores", len(all), 3)
	for _, listed := range all {
		store, err := client.GetStore(ctx, listed.Id)
		ok("store", err)
		same("store", store.Address, listed.Address)
		same("its version", len(strings.Split(store.Version, ".")), 3)
		same("its state", store.NodeState.String(), "Serving")
		same("its build", strings.HasPrefix(store.GitHash, "armilla-"), true)
		now := time.Now().Unix()
		same("its start", now-600 < store.StartTimestamp && store.StartTimestamp <= now, true)
		same("its program's folder", store.DeployPath != "", true)
	}
	checks++
	_, err = client.GetStore(ctx, 1<<40)
	if err == nil || !strings.Contains(err.Error(), "invalid store ID") || !strings.Contains(err.Error(), "not found") {
		fail("a store that is not there: %v", err)
	}
	members, err := client.GetAllMembers(ctx)
	ok("members", err)
	same("members", len(members.Members), 3)
	for _, member := range members.Members {
		same("a member's version", len(strings.Split(member.BinaryVersion, ".")), 3)
	}
}

// timestamps requests many at once; each worker's timestamps must increase.
func timestamps(client pd.Client, count int) {
	var group sync.WaitGroup
	wrong := make(chan string, 1)
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			var before uint64
			for n := 0; n < count/8; n++ {
				physical, logical, err := client.GetTS(ctx)
				now := uint64(physical)<<18 | uint64(logical)
				if err != nil || now <= before {
					select {
					case wrong <- fmt.Sprintf("%d after %d: %v", now, before, err):
					default:
					}
				}
				before = now
			}
		}()
	}
	group.Wait()
	checks++
	select {
	case what := <-wrong:
		fail("timestamps: %s", what)
	default:
	}
}

func collection(client pd.Client) {
	states := client.GetGCStatesClient(nullKeyspace)
	state, err := states.GetGCState(ctx)
	ok("the state of garbage collection", err)
	same("its keyspace", state.KeyspaceID, uint32(nullKeyspace))
	before := state.GCSafePoint
	point, err := client.UpdateGCSafePoint(ctx, before+5) //nolint:staticcheck
	ok("a new safe point", err)
	same("a new safe point", point, before+5)
	point, err = client.UpdateGCSafePoint(ctx, before+1) //nolint:staticcheck
	ok("an older safe point", err)
	same("it never goes back", point, before+5)
	state, err = states.GetGCState(ctx, gc.ExcludeGCBarriers(false), gc.ExcludeGlobalGCBarriers(false))
	ok("the state of garbage collection", err)
	same("its points", []uint64{state.TxnSafePoint, state.GCSafePoint}, []uint64{before + 5, before + 5})
	barriers, err := state.GetGCBarriers()
	ok("what holds it back", err)
	same("what holds it back", len(barriers), 0)
}

func keysOfOthers(client pd.Client) {
	answer, err := client.Get(ctx, []byte("resource_group/settings"), opt.WithPrefix())
	ok("keys of others", err)
	same("there are none", len(answer.Kvs), 0)
	same("at a revision", answer.Header.Revision >= 1, true)
	checks++
	if _, err := client.Put(ctx, []byte("k"), []byte("v")); err == nil || !strings.Contains(err.Error(), "does not store keys") {
		fail("a key of another was taken: %v", err)
	}
	events, err := client.Watch(ctx, []byte("resource_group/"), opt.WithPrefix())
	ok("watch", err)
	select {
	case event, open := <-events:
		fail("a watch told of %v, open %v", event, open)
	case <-time.After(300 * time.Millisecond):
	}
}
