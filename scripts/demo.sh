#!/bin/sh
# make demo: searches caching schedules for the built-in miniature and leaves the front and its pictures. Run again, it goes on.
set -eu
exec "$1" evolve --out "$2"
