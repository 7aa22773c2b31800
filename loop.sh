for i in 1 2 3; do (while :; do :; done) & done
for i in $(seq 90); do python -m pytest -q -p no:cacheprovider tests/systemd/test_attach.py -k "tmux or less" -m "systemd" > /tmp/o.txt 2>&1 || { echo "FAIL $i"; grep -o "server exited[^\\]*\|ended: exited, status ." /tmp/o.txt | sort | uniq -c; }; done; echo done
kill $(jobs -p)
