import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import org.tikv.common.TiConfiguration;
import org.tikv.common.TiSession;
import org.tikv.common.exception.RawCASConflictException;
import org.tikv.common.util.Pair;
import org.tikv.kvproto.Kvrpcpb.KvPair;
import org.tikv.raw.RawKVClient;
import org.tikv.shade.com.google.protobuf.ByteString;

/**
 * Compares every raw call of TiKV's Java client, over several regions, with a model.
 *
 * <p>The test (tests/clients.rs) starts the program with two arguments: the addresses of all nodes, and the first keys of all
 * regions in hex, both separated by commas. The program requests faults on its standard output ("@kill HEXKEY", "@restart") and
 * waits for a line on its standard input; it ends with "@done N checks".
 */
public final class Raw {
  private static final BufferedReader ORDERS =
      new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
  private static final List<ByteString> REGIONS = new ArrayList<>();
  private static int checks;

  /** Keys are compared as the cluster does: byte by byte, unsigned. */
  private static final class Model extends TreeMap<ByteString, String> {
    Model() {
      super(ByteString.unsignedLexicographicalComparator());
    }
  }

  private static void fail(String what) {
    System.out.println("@failed " + (what.length() > 4000 ? what.substring(0, 4000) : what));
    System.exit(1);
  }

  private static void same(String what, Object seen, Object expected) {
    checks++;
    if (!seen.equals(expected)) {
      fail(what + ": saw " + seen + ", expected " + expected);
    }
  }

  private static void ask(String order) throws Exception {
    System.out.println(order);
    String answer = ORDERS.readLine();
    if (!"ok".equals(answer)) {
      fail(order + ": " + answer);
    }
  }

  /** Retries a call until it succeeds, as an application would. */
  private static <T> T steadfast(String what, Callable<T> call) throws Exception {
    long began = System.nanoTime();
    while (true) {
      try {
        T result = call.call();
        checks++;
        return result;
      } catch (Exception error) {
        if (System.nanoTime() - began > 60_000_000_000L) {
          fail(what + ": no success in a minute, the last error was " + error);
        }
        Thread.sleep(50);
      }
    }
  }

  private static ByteString text(String text) {
    return ByteString.copyFromUtf8(text);
  }

  /** Returns a key in the region that begins at start; the byte keeps keys of the first region below the second's start. */
  private static ByteString key(ByteString start, String name) {
    return start.concat(text("\001java/" + name));
  }

  private static ByteString hex(String hex) {
    byte[] bytes = new byte[hex.length() / 2];
    for (int at = 0; at < bytes.length; at++) {
      bytes[at] = (byte) Integer.parseInt(hex.substring(2 * at, 2 * at + 2), 16);
    }
    return ByteString.copyFrom(bytes);
  }

  private static String hex(ByteString key) {
    StringBuilder hex = new StringBuilder();
    for (byte b : key.toByteArray()) {
      hex.append(String.format("%02x", b));
    }
    return hex.toString();
  }

  private static List<ByteString> spread(int count, String tag) {
    List<ByteString> keys = new ArrayList<>();
    for (ByteString start : REGIONS) {
      for (int n = 0; n < count; n++) {
        keys.add(key(start, String.format("%s/%04d", tag, n)));
      }
    }
    keys.sort(ByteString.unsignedLexicographicalComparator());
    return keys;
  }

  /** Returns the pairs of a result, in its order. */
  private static String pairs(List<KvPair> pairs) {
    StringBuilder out = new StringBuilder();
    for (KvPair pair : pairs) {
      out.append(hex(pair.getKey())).append('=').append(pair.getValue().toStringUtf8()).append('\n');
    }
    return out.toString();
  }

  private static String pairs(SortedMap<ByteString, String> model, int limit) {
    StringBuilder out = new StringBuilder();
    for (Map.Entry<ByteString, String> pair : model.entrySet()) {
      if (limit-- == 0) {
        break;
      }
      out.append(hex(pair.getKey())).append('=').append(pair.getValue()).append('\n');
    }
    return out.toString();
  }

  private static TiSession session(String addrs, boolean atomic) {
    TiConfiguration conf = TiConfiguration.createRawDefault(addrs);
    conf.setEnableAtomicForCAS(atomic);
    return TiSession.create(conf);
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 2) {
      fail("arguments: ADDRESS,... HEXKEY,...");
    }
    for (String start : args[1].split(",", -1)) {
      REGIONS.add(hex(start));
    }
    if (REGIONS.size() > 1) {
      // The last region is a sentinel at the very end; clients' keys are before it.
      REGIONS.remove(REGIONS.size() - 1);
    }
    long began = System.nanoTime();
    TiSession plainSession = session(args[0], false);
    RawKVClient client = plainSession.createRawClient();
    client.get(text("java/first"));
    System.out.printf("@started %d ms%n", (System.nanoTime() - began) / 1_000_000);
    TiSession atomicSession = session(args[0], true);
    RawKVClient atomic = atomicSession.createRawClient();
    ByteString end = hex("ff");
    client.deleteRange(ByteString.EMPTY, end);

    single(client);
    timeToLive(client);
    many(client);
    swaps(atomic);
    tooLarge(client);
    failover(client, atomic);

    client.deleteRange(ByteString.EMPTY, end);
    same("nothing is left", pairs(client.scan(ByteString.EMPTY, end, 1000)), "");
    client.close();
    atomic.close();
    plainSession.close();
    atomicSession.close();
    System.out.printf("@done %d checks%n", checks);
    // The client leaves threads behind that are not daemons.
    System.exit(0);
  }

  private static void single(RawKVClient client) {
    List<ByteString> starts = new ArrayList<>(REGIONS);
    starts.add(ByteString.EMPTY);
    for (ByteString start : starts) {
      ByteString k = key(start, "one");
      same("an absent key", client.get(k), Optional.empty());
      client.put(k, text("1"));
      same("get", client.get(k), Optional.of(text("1")));
      client.delete(k);
      same("a deleted key", client.get(k), Optional.empty());
      client.delete(k);
    }
    same("the empty key is a key, and absent", client.get(ByteString.EMPTY), Optional.empty());
  }

  private static void timeToLive(RawKVClient client) throws Exception {
    ByteString k = key(REGIONS.get(REGIONS.size() - 1), "ttl");
    same("the ttl of an absent key", client.getKeyTTL(k), Optional.empty());
    client.put(k, text("v"), 1000);
    long left = client.getKeyTTL(k).orElse(0L);
    same("the ttl", left > 900 && left <= 1000, true);
    client.put(k, text("v"));
    same("a put without a ttl clears it", client.getKeyTTL(k), Optional.of(0L));
    client.put(k, text("v"), 1);
    long began = System.nanoTime();
    while (client.get(k).isPresent()) {
      if (System.nanoTime() - began > 60_000_000_000L) {
        fail("a key with a ttl of 1 s does not expire");
      }
      Thread.sleep(50);
    }
    Map<ByteString, ByteString> batch = new LinkedHashMap<>();
    for (ByteString key : spread(1, "ttls")) {
      batch.put(key, text("v"));
    }
    client.batchPut(batch, 500);
    for (ByteString key : batch.keySet()) {
      left = client.getKeyTTL(key).orElse(0L);
      same("the ttl of a batch", left > 400 && left <= 500, true);
    }
    client.batchDelete(new ArrayList<>(batch.keySet()));
  }

  private static void many(RawKVClient client) {
    Model model = new Model();
    for (ByteString k : spread(50, "many")) {
      model.put(k, "value of " + hex(k));
    }
    for (int n = 0; n < 1300; n++) {
      model.put(key(REGIONS.get(REGIONS.size() - 1), String.format("page/%05d", n)), "page " + n);
    }
    Map<ByteString, ByteString> batch = new LinkedHashMap<>();
    model.forEach((k, value) -> batch.put(k, text(value)));
    client.batchPut(batch);
    List<ByteString> keys = new ArrayList<>(model.keySet());
    List<ByteString> asked = new ArrayList<>(keys);
    asked.add(text("no such key"));
    Model got = new Model();
    for (KvPair pair : client.batchGet(asked)) {
      got.put(pair.getKey(), pair.getValue().toStringUtf8());
    }
    same("batch get", pairs(got, -1), pairs(model, -1));

    ByteString last = keys.get(keys.size() - 1).concat(hex("00"));
    same("scan", pairs(client.scan(ByteString.EMPTY, last)), pairs(model, -1));
    same("scan with a limit", pairs(client.scan(ByteString.EMPTY, 17)), pairs(model, 17));
    same("scan of an empty range", pairs(client.scan(text("b"), text("a"), 10)), "");
    int keysOnly = 0;
    for (KvPair pair : client.scan(ByteString.EMPTY, last, true)) {
      keysOnly += pair.getValue().isEmpty() ? 1 : 0;
    }
    same("scan of keys", keysOnly, keys.size());
    for (int at = 0; at < keys.size(); at += 97) {
      ByteString low = keys.get(at);
      ByteString high = keys.get(Math.min(at + 200, keys.size() - 1));
      same("scan of a range", pairs(client.scan(low, high, 10000)), pairs(model.subMap(low, high), -1));
    }
    ByteString page = key(REGIONS.get(REGIONS.size() - 1), "page/");
    ByteString pageEnd = key(REGIONS.get(REGIONS.size() - 1), "page0");
    same("scan of a prefix", pairs(client.scanPrefix(page)), pairs(model.subMap(page, pageEnd), -1));
    List<Pair<ByteString, ByteString>> ranges = new ArrayList<>();
    List<List<ByteString>> inside = new ArrayList<>();
    for (ByteString start : REGIONS) {
      ByteString low = key(start, "many/");
      ByteString high = key(start, "many0");
      ranges.add(Pair.create(low, high));
      inside.add(new ArrayList<>(model.subMap(low, high).keySet()));
    }
    same("batch scan of keys", client.batchScanKeys(ranges, 1000), inside);

    List<ByteString> gone = new ArrayList<>();
    for (int at = 0; at < keys.size(); at += 4) {
      gone.add(keys.get(at));
    }
    client.batchDelete(gone);
    model.keySet().removeAll(gone);
    same("batch delete", pairs(client.scan(ByteString.EMPTY, last)), pairs(model, -1));
    client.deletePrefix(key(REGIONS.get(REGIONS.size() - 1), "page/00"));
    model.subMap(key(REGIONS.get(REGIONS.size() - 1), "page/00"), key(REGIONS.get(REGIONS.size() - 1), "page/01")).clear();
    same("delete of a prefix", pairs(client.scan(ByteString.EMPTY, last)), pairs(model, -1));
    keys = new ArrayList<>(model.keySet());
    ByteString low = keys.get(keys.size() / 8);
    ByteString high = keys.get(keys.size() * 3 / 4);
    client.deleteRange(low, high);
    model.subMap(low, high).clear();
    same("delete range across regions", pairs(client.scan(ByteString.EMPTY, last)), pairs(model, -1));
    client.deleteRange(ByteString.EMPTY, last);
    same("nothing is left", pairs(client.scan(ByteString.EMPTY, last)), "");
  }

  /** Swaps. Returns the value found instead, if it was a different one. */
  private static String swap(RawKVClient atomic, ByteString key, String before, String after) {
    try {
      atomic.compareAndSet(key, Optional.ofNullable(before).map(Raw::text), text(after));
      return "done";
    } catch (RawCASConflictException conflict) {
      return "found " + conflict.getPrevValue().map(ByteString::toStringUtf8).orElse("nothing");
    }
  }

  private static void swaps(RawKVClient atomic) throws Exception {
    for (ByteString start : REGIONS) {
      ByteString k = key(start, "swap");
      same("swap finds nothing", swap(atomic, k, "x", "y"), "found nothing");
      same("swap from nothing", swap(atomic, k, null, "1"), "done");
      same("swap only once", swap(atomic, k, null, "2"), "found 1");
      same("swap", swap(atomic, k, "1", "2"), "done");
      same("swap of another value", swap(atomic, k, "1", "3"), "found 2");
      same("get after swaps", atomic.get(k), Optional.of(text("2")));
      same("put if absent", atomic.putIfAbsent(k, text("4")), Optional.of(text("2")));
      atomic.put(k, text("5"));
      atomic.delete(k);
      same("put if absent", atomic.putIfAbsent(k, text("6")), Optional.empty());
      atomic.compareAndSet(k, Optional.of(text("6")), text("7"), 700);
      long left = atomic.getKeyTTL(k).orElse(0L);
      same("swap with a ttl", left > 600 && left <= 700, true);
      atomic.delete(k);
    }
    ByteString counter = key(REGIONS.get(REGIONS.size() / 2), "counter");
    atomic.put(counter, text("0"));
    ConcurrentLinkedQueue<Exception> failed = new ConcurrentLinkedQueue<>();
    List<Thread> workers = new ArrayList<>();
    for (int worker = 0; worker < 4; worker++) {
      workers.add(
          new Thread(
              () -> {
                try {
                  for (int done = 0; done < 25; ) {
                    String now = atomic.get(counter).orElseThrow().toStringUtf8();
                    String next = Integer.toString(Integer.parseInt(now) + 1);
                    done += swap(atomic, counter, now, next).equals("done") ? 1 : 0;
                  }
                } catch (Exception error) {
                  failed.add(error);
                }
              }));
    }
    for (Thread worker : workers) {
      worker.start();
    }
    for (Thread worker : workers) {
      worker.join();
    }
    same("a counter moved by swaps", failed.toString(), "[]");
    same("a counter moved by swaps", atomic.get(counter), Optional.of(text("100")));
    atomic.delete(counter);
  }

  private static void tooLarge(RawKVClient client) {
    // The client limits a call to 200 ms.
    byte[] large = new byte[256 << 10];
    Arrays.fill(large, (byte) 'v');
    ByteString k = key(REGIONS.get(0), "large");
    client.put(k, ByteString.copyFrom(large));
    same("a large value", client.get(k), Optional.of(ByteString.copyFrom(large)));
    client.delete(k);
  }

  /** Runs calls while the leader of a region is killed. */
  private static void failover(RawKVClient client, RawKVClient atomic) throws Exception {
    List<ByteString> keys = spread(40, "failover");
    Model model = new Model();
    for (ByteString k : keys.subList(0, keys.size() / 2)) {
      client.put(k, text("before"));
      model.put(k, "before");
    }
    // Writers that run meanwhile; the last write of each must be there.
    AtomicBoolean stop = new AtomicBoolean();
    ConcurrentLinkedQueue<String> wrong = new ConcurrentLinkedQueue<>();
    List<Thread> writers = new ArrayList<>();
    for (ByteString start : REGIONS) {
      ByteString k = key(start, "writer");
      writers.add(
          new Thread(
              () -> {
                try {
                  for (int n = 0; !stop.get(); n++) {
                    ByteString value = text(Integer.toString(n));
                    steadfast("put", () -> put(client, k, value));
                    ByteString seen = steadfast("get", () -> client.get(k)).orElse(ByteString.EMPTY);
                    if (!seen.equals(value)) {
                      wrong.add(hex(k) + " is " + seen.toStringUtf8() + " after a put of " + value.toStringUtf8());
                    }
                  }
                } catch (Exception error) {
                  wrong.add(error.toString());
                }
              }));
    }
    for (Thread writer : writers) {
      writer.start();
    }
    Thread.sleep(200);
    long began = System.nanoTime();
    ask("@kill " + hex(keys.get(0)));
    for (ByteString k : keys) {
      String value = "after " + hex(k);
      steadfast("put after the leader died", () -> put(client, k, text(value)));
      model.put(k, value);
    }
    System.out.printf("every region took a write %d ms after the leader died%n", (System.nanoTime() - began) / 1_000_000);
    Thread.sleep(500);
    stop.set(true);
    for (Thread writer : writers) {
      writer.join();
    }
    same("the writers", wrong.toString(), "[]");
    check(client, keys, model, "after the leader died");
    ByteString k = key(REGIONS.get(0), "swap");
    steadfast(
        "delete",
        () -> {
          atomic.delete(k);
          return true;
        });
    String swapped = steadfast("swap after the leader died", () -> swap(atomic, k, null, "1"));
    // An attempt whose reply was lost may have taken effect.
    same("swap after the leader died", swapped.equals("done") || swapped.equals("found 1"), true);
    ask("@restart");
    check(client, keys, model, "after the restart");
  }

  private static boolean put(RawKVClient client, ByteString key, ByteString value) {
    client.put(key, value);
    return true;
  }

  private static void check(RawKVClient client, List<ByteString> keys, Model model, String when) throws Exception {
    Model got = new Model();
    for (KvPair pair : steadfast("batch get " + when, () -> client.batchGet(keys))) {
      got.put(pair.getKey(), pair.getValue().toStringUtf8());
    }
    same("batch get " + when, pairs(got, -1), pairs(model, -1));
    ByteString last = keys.get(keys.size() - 1).concat(hex("00"));
    List<KvPair> seen = new ArrayList<>(steadfast("scan " + when, () -> client.scan(keys.get(0), last, 10000)));
    seen.removeIf(pair -> !model.containsKey(pair.getKey()));
    same("scan " + when, pairs(seen), pairs(model, -1));
  }
}
