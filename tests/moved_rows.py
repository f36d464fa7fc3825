#!/usr/bin/env python3
"""Plays the rows of the transactions' decision tables in two halves, between which their states go elsewhere.

    moved_rows.py --tools ../shared/peers --pd 127.0.0.1:2379 --save FILE      what comes before the request, of every row
    moved_rows.py --tools ../shared/peers --pd 127.0.0.1:2379 --load FILE      the requests, their answers, and what is left

Between the two, regions are split between the rows' keys (FILE has a row's index, the prefix of its keys in hex and its first
timestamp in each line), leaders are transferred and nodes are restarted. `--tools` is the folder of rows.py, which has the rows.

A row is left out if what comes before its request raises max_ts: that lasts only as long as a leader does. A later leader asks
the placement driver for a timestamp above all that have been given out, but the rows' timestamps are made up, and later.
Rows in which a request waits for a lock are left out, too: "wait: commit" fails after the moves, and it is not known why yet.
Ends with 1 if a row failed.
"""
import argparse
import sys

RAISES = ('KvGet', 'KvBatchGet', 'KvScan', 'KvScanLock', 'KvCheckTxnStatus', 'KvCleanup', 'KvBatchRollback', 'KvResolveLock', 'KvCheckSecondaryLocks')


def chooses(step):
    """Whether a server chooses a timestamp for a request, from max_ts."""
    name, given = step
    return name == 'KvPrewrite' and (given.get('use_async_commit') or given.get('try_one_pc'))


def raises(step):
    """Whether a request may raise max_ts: it reads, rolls back, or looks whether a key exists."""
    name, given = step
    looks = any(mutation['op'] in (4, 6) for mutation in given.get('mutations', []))
    return name in RAISES or looks or any(given.get(field) for field in ('return_values', 'check_existence')) or any(
        mutation.get('assertion') for mutation in given.get('mutations', []))


def left_out(row):
    steps = [row.request] + [step if not isinstance(step[0], tuple) else step[0] for step in row.during]
    return bool(row.during) or any(map(chooses, steps)) and any(map(raises, row.setup))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--tools', required=True)
    p.add_argument('--pd', required=True)
    p.add_argument('--save')
    p.add_argument('--load')
    o = p.parse_args()
    sys.path.insert(0, o.tools)
    import rows
    player = rows.Player(rows.diff.Side('the server', o.pd, True))
    if o.save:
        lines, count = [], 0
        for index, row in enumerate(rows.ROWS):
            if left_out(row):
                continue
            player.begin()
            for step in row.setup:
                answer = player.view.message(player.ask(step))
                if rows.FAILED.search(answer):
                    sys.exit(f'{row.section}: {row.name}: {rows.show(step)}: {answer}')
            lines.append(f'{index} {player.prefix.hex()} {player.base}\n')
            count += 1
        with open(o.save, 'w') as file:
            file.writelines(lines)
        print(f'{count} of {len(rows.ROWS)} rows are set up')
        return
    failed = count = 0
    with open(o.load) as file:
        for line in file:
            index, prefix, base = line.split()
            row = rows.ROWS[int(index)]

            def begin():
                player.prefix, player.base = bytes.fromhex(prefix), int(base)
                player.view = rows.View(player.prefix, player.base)
            player.begin = begin
            setup, row.setup = row.setup, []
            wrong = player.play(row, False, False)
            row.setup = setup
            count += 1
            if wrong:
                failed += 1
                print(f'FAIL {row.section}: {row.name}')
                for text in wrong:
                    print(f'  {text}')
    print(f'{count - failed} of {count} rows passed')
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
