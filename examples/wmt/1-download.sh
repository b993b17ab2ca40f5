#!/usr/bin/env bash
# Downloads the archives of a data set and checks them against archives.tsv.
#
# usage: bash examples/wmt/1-download.sh [options]
#
#   --data NAME          wmt14.en-de (default), wmt18.en-de, wmt14.en-fr, wmt18.en-cs,
#                        wmt18-czeng17.en-cs (see README.md) or iwslt14.de-en (../iwslt14)
#   --work FOLDER        folder for all output (default: wmt)
#   --archives FOLDER    folder of the archives (default: WORK/archives)
#   --table FILE         table of archives, for mirrors (default: archives.tsv)
#
# Existing archives are kept; an interrupted download resumes where it stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

data=wmt14.en-de work=wmt archives='' table=$here/archives.tsv
options "data work archives table" "$@"
need python curl
python "$here/corpora.py" download "$data" --archives "${archives:-$work/archives}" --table "$table"
