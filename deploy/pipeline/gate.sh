#!/bin/sh
# A gate for a pipeline: it opens for an experiment that passed, and for nothing else.
#
#   gate.sh EXPERIMENT [further flags of `fracas run`]
#
# JUNIT is the result's file (junit.xml), LIMIT the longest wait (30m). The exit code is that of `fracas run`, docs/cli.md.
set -u

if [ $# -eq 0 ]; then
    echo "usage: gate.sh EXPERIMENT [FLAG...]" >&2
    exit 2
fi
junit=${JUNIT:-junit.xml}
# An older result may not stay where the program itself is missing or is called wrongly.
if [ -f "$junit" ] && ! rm -f -- "$junit"; then
    echo "gate closed: an older $junit cannot be removed" >&2
    exit 1
fi

fracas run "$@" --junit "$junit" --timeout "${LIMIT:-30m}" --stop-on-interrupt
code=$?

case $code in
0)
    if [ -f "$junit" ] && [ -s "$junit" ]; then
        echo "gate open: passed"
        exit 0
    fi
    code=1
    why="passed, and $junit is not there"
    ;;
1) why="the run ended in error, or could not be planned or reported" ;;
2 | 3) why="the command line or the experiment's file is wrong" ;;
4 | 5) why="the controller does not let this caller start it" ;;
6) why="the hypothesis broke" ;;
7) why="aborted, or everything is halted" ;;
8) why="a host is not proven clean; look there before anything else" ;;
9) why="not over after ${LIMIT:-30m}; the run goes on until it is stopped" ;;
10) why="the controller cannot be reached" ;;
11) why="inconclusive: nothing was shown" ;;
*) why="fracas itself did not come to its end" ;;
esac
echo "gate closed: $why (exit $code)" >&2
exit "$code"
