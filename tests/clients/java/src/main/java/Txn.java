import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import org.tikv.common.BytePairWrapper;
import org.tikv.common.ByteWrapper;
import org.tikv.common.TiConfiguration;
import org.tikv.common.TiSession;
import org.tikv.common.util.BackOffer;
import org.tikv.common.util.ConcreteBackOffer;
import org.tikv.kvproto.Kvrpcpb.KvPair;
import org.tikv.shade.com.google.protobuf.ByteString;
import org.tikv.txn.KVClient;
import org.tikv.txn.TwoPhaseCommitter;

/**
 * Runs transactions of TiKV's Java client over several regions, and compares what they read with a model; then goes on while
 * a leader is killed.
 *
 * <p>Arguments and orders are those of Raw.
 */
public final class Txn {
  private static final int WAIT_MS = 20000;
  private static final BufferedReader ORDERS =
      new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
  private static final List<ByteString> REGIONS = new ArrayList<>();
  private static final AtomicLong CHECKS = new AtomicLong();

  private final TiSession session;
  private final KVClient reader;

  private Txn(TiSession session) {
    this.session = session;
    this.reader = session.createKVClient();
  }

  private static void fail(String why) {
    System.out.println("@failed " + why);
    System.out.flush();
    Runtime.getRuntime().halt(1);
  }

  private static void same(String what, Object seen, Object expected) {
    CHECKS.incrementAndGet();
    if (!String.valueOf(seen).equals(String.valueOf(expected))) {
      fail(what + ": saw " + seen + ", expected " + expected);
    }
  }

  private static void ask(String order) throws Exception {
    System.out.println(order);
    System.out.flush();
    String answer = ORDERS.readLine();
    if (!"ok".equals(answer)) {
      fail(order + ": " + answer);
    }
  }

  private static ByteString bytes(String hex) {
    byte[] out = new byte[hex.length() / 2];
    for (int n = 0; n < out.length; n++) {
      out[n] = (byte) Integer.parseInt(hex.substring(2 * n, 2 * n + 2), 16);
    }
    return ByteString.copyFrom(out);
  }

  private static ByteString key(ByteString start, String name) {
    return start.concat(ByteString.copyFromUtf8("\u0003java/" + name));
  }

  private long now() {
    return session.getTimestamp().getVersion();
  }

  private static BackOffer patience() {
    return ConcreteBackOffer.newCustomBackOff(WAIT_MS);
  }

  private void write(long start, SortedMap<ByteString, String> pairs) throws Exception {
    write(start, pairs, WAIT_MS);
  }

  /** Writes pairs in one transaction; an empty value deletes. */
  private void write(long start, SortedMap<ByteString, String> pairs, int waitMs) throws Exception {
    try (TwoPhaseCommitter committer = new TwoPhaseCommitter(session, start)) {
      byte[] primary = pairs.firstKey().toByteArray();
      List<BytePairWrapper> others = new ArrayList<>();
      List<ByteWrapper> names = new ArrayList<>();
      for (Map.Entry<ByteString, String> pair : pairs.tailMap(pairs.firstKey().concat(ByteString.copyFrom(new byte[1]))).entrySet()) {
        others.add(new BytePairWrapper(pair.getKey().toByteArray(), pair.getValue().getBytes(StandardCharsets.UTF_8)));
        names.add(new ByteWrapper(pair.getKey().toByteArray()));
      }
      committer.prewritePrimaryKey(ConcreteBackOffer.newCustomBackOff(waitMs), primary, pairs.get(pairs.firstKey()).getBytes(StandardCharsets.UTF_8));
      if (!others.isEmpty()) {
        committer.prewriteSecondaryKeys(primary, others.iterator(), waitMs);
      }
      long commit = now();
      committer.commitPrimaryKey(ConcreteBackOffer.newCustomBackOff(waitMs), primary, commit);
      if (!names.isEmpty()) {
        committer.commitSecondaryKeys(names.iterator(), commit, waitMs);
      }
    }
  }

  private static SortedMap<ByteString, String> model() {
    return new TreeMap<>(ByteString.unsignedLexicographicalComparator());
  }

  private static List<String> shown(Iterable<KvPair> pairs) {
    List<String> all = new ArrayList<>();
    for (KvPair pair : pairs) {
      if (!pair.getValue().isEmpty()) {
        all.add(hex(pair.getKey()) + "=" + pair.getValue().toStringUtf8());
      }
    }
    all.sort(String::compareTo);
    return all;
  }

  private static List<String> shown(SortedMap<ByteString, String> pairs) {
    List<String> all = new ArrayList<>();
    pairs.forEach((key, value) -> all.add(hex(key) + "=" + value));
    all.sort(String::compareTo);
    return all;
  }

  /** Reads keys in each of the ways that there are. */
  private void read(String what, long at, List<ByteString> keys, SortedMap<ByteString, String> expected) throws Exception {
    for (ByteString key : keys) {
      ByteString value = reader.get(key, at);
      same(what + ": get", value.toStringUtf8(), expected.getOrDefault(key, ""));
    }
    same(what + ": batch get", shown(reader.batchGet(patience(), keys, at)), shown(expected));
    ByteString end = keys.get(keys.size() - 1).concat(ByteString.copyFrom(new byte[1]));
    same(what + ": scan", shown(reader.scan(keys.get(0), end, at)), shown(expected));
  }

  private void everything() throws Exception {
    List<ByteString> keys = new ArrayList<>();
    for (ByteString start : REGIONS) {
      for (int n = 0; n < 3; n++) {
        keys.add(key(start, "" + n));
      }
    }
    keys.sort(ByteString.unsignedLexicographicalComparator());
    long before = now();
    SortedMap<ByteString, String> expected = model();
    for (int n = 0; n < keys.size(); n++) {
      char[] more = new char[n % 2 * 400];
      Arrays.fill(more, '.');
      expected.put(keys.get(n), "value " + n + new String(more));
    }
    write(now(), expected);
    long between = now();
    read("written", between, keys, expected);

    SortedMap<ByteString, String> changes = model();
    changes.put(keys.get(0), "again");
    changes.put(keys.get(4), "again");
    write(now(), changes);
    SortedMap<ByteString, String> after = model();
    after.putAll(expected);
    after.putAll(changes);
    read("changed", now(), keys, after);
    read("the past", between, keys, expected);
    read("before", before, keys, model());

    // The later commit of two that write one key is refused.
    long early = now();
    SortedMap<ByteString, String> one = model();
    one.put(keys.get(1), "second");
    write(now(), one);
    after.putAll(one);
    one.put(keys.get(1), "first");
    String refused = "no";
    try {
      write(early, one, 2000);
    } catch (Exception error) {
      refused = "yes";
    }
    same("a conflict is refused", refused, "yes");
    read("after a conflict", now(), keys, after);

    // What a client leaves that dies between its two phases is ended by the next reader.
    try (TwoPhaseCommitter dead = new TwoPhaseCommitter(session, now(), 100)) {
      dead.prewritePrimaryKey(patience(), keys.get(2).toByteArray(), "never".getBytes(StandardCharsets.UTF_8));
    }
    read("after a death", now(), keys, after);
  }

  /**
   * Writes one number to keys of all regions, again and again, while a leader is killed. One transaction at a time: of several,
   * this client commits some whose secondary keys were refused (real TiKV shows the same).
   */
  private void failover() throws Exception {
    List<ByteString> keys = new ArrayList<>();
    for (ByteString start : REGIONS) {
      keys.add(key(start, "number/a"));
      keys.add(key(start, "number/b"));
    }
    keys.sort(ByteString.unsignedLexicographicalComparator());
    int number = 0;
    String[] orders = {"", "@kill " + hex(REGIONS.get(1)), "@restart"};
    for (String order : orders) {
      if (!order.isEmpty()) {
        ask(order);
      }
      for (int round = 0; round < 8; round++) {
        number++;
        SortedMap<ByteString, String> all = model();
        for (ByteString key : keys) {
          all.put(key, "" + number);
        }
        long until = System.currentTimeMillis() + 120000;
        boolean done = false;
        while (!done) {
          try {
            write(now(), all);
            done = true;
          } catch (Exception error) {
            // A lost leader, or locks of the attempt before. It may have committed, with the same values.
            if (System.currentTimeMillis() > until) {
              fail("no commit in two minutes: " + error);
            }
          }
        }
        List<String> seen = null;
        while (seen == null) {
          try {
            seen = shown(reader.batchGet(patience(), keys, now()));
          } catch (Exception error) {
            if (System.currentTimeMillis() > until) {
              fail("no read in two minutes: " + error);
            }
          }
        }
        same("number " + number, seen, shown(all));
      }
    }
  }

  private static String hex(ByteString bytes) {
    StringBuilder out = new StringBuilder();
    for (byte one : bytes.toByteArray()) {
      out.append(String.format("%02x", one));
    }
    return out.toString();
  }

  public static void main(String[] arguments) throws Exception {
    for (String text : arguments[1].split(",", -1)) {
      REGIONS.add(bytes(text));
    }
    long began = System.currentTimeMillis();
    try (TiSession session = TiSession.create(TiConfiguration.createDefault(arguments[0]))) {
      Txn txn = new Txn(session);
      txn.now();
      System.out.println("@started " + (System.currentTimeMillis() - began) + " ms");
      txn.everything();
      txn.failover();
    } catch (Throwable error) {
      error.printStackTrace(System.out);
      fail(String.valueOf(error));
    }
    System.out.println("@done " + CHECKS.get() + " checks");
    System.out.flush();
    Runtime.getRuntime().halt(0);
  }
}
