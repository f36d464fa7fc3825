#!/usr/bin/env python3
"""Sends the rows of the transactions' decision tables to a cluster, with the answers of TiKV where a request has waited.

    wait_rows.py --tools ../shared/peers --pd 127.0.0.1:2379 [arguments of rows.py]

`--tools` is the folder of rows.py, which has the rows. Its design lets a lock request that has waited run again when the key
is released ("wait: commit", "wait: rollback" and "wait: pessimistic rollback"). TiKV answers with a conflict, its Go client's
tests ask for that, and so does Armilla (src/docs/transactions.md). Ends with 1 if a row failed.
"""
import argparse
import sys


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--tools', required=True)
    o, rest = p.parse_known_args()
    sys.path.insert(0, o.tools)
    sys.argv[1:] = rest
    import rows
    changed = [row for row in rows.ROWS if row.section == 'wait' and row.ours[0] == 'ok']
    names = {row.name for row in changed}
    if names != {'commit', 'rollback', 'pessimistic rollback'}:
        sys.exit(f'other rows than expected differ from TiKV after a wait: {names}')
    for row in changed:
        row.ours = row.tikv
    rows.main()


if __name__ == '__main__':
    main()
