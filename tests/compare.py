"""What the scripts share that compare Armilla with real TiKV: their arguments, and how they show what differs."""
import argparse
import os
import sys


def arguments(doc, seeds):
    """Returns the parser of a script's command line, to which the script adds its own options."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tools', required=True, help='the directory of diff.py')
    parser.add_argument('--a', required=True, metavar='PD', help='the placement driver of TiKV')
    parser.add_argument('--b', required=True, metavar='PD', help='that of Armilla')
    parser.add_argument('--seeds', default=seeds, help=f'FIRST-LAST, or one (default: {seeds})')
    return parser


def parse(parser):
    """Returns the arguments, with the seeds as a range, and the module of diff.py."""
    parsed = parser.parse_args()
    first, _, last = parsed.seeds.partition('-')
    parsed.seeds = range(int(first), int(last or first) + 1)
    sys.path.insert(0, os.path.abspath(parsed.tools))
    import diff
    return parsed, diff


def report(diff, player, run, found, shrinks):
    """Shows where the two differ in a run, and the shortest run found in which they do."""
    diff.show(found, 'AB')
    if not shrinks:
        return
    small = diff.shrink(player, run[:found[0] + 1])
    print(f'  shortest list found ({len(small)} requests):')
    for name, fields in small:
        print(f'    {name} {diff.brief(fields)}')
    found = player.play(small)
    if found:
        diff.show(found, 'AB')
