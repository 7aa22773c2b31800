export PATH=$PATH:/usr/local/bin
set +e
U=7f3a9c21-1b2c-4d5e-8f90-123456789abc
V=9d3a9c21-1b2c-4d5e-8f90-123456789abc
run() { setsid scopekeeper run "$@" >/dev/null 2>&1 </dev/null & }
sleep 100000 & O=$!
scopekeeper run -s agent:main:telegram:direct:123456789 -n filesystem --owner $$ -- sleep infinity & 
scopekeeper run -s agent:main:telegram:direct:123456789 -n brave-search-server --owner $$ -- sh -c 'sleep infinity; : /home/someone/node_modules/.bin/a/very/long/command/line --with --many --options=1' & 
scopekeeper run -s agent:main:cron:$U -l cron --session-id $U -n git --owner $O -- sleep infinity &
scopekeeper run -s agent:main:cron:$V -l cron --session-id $V -n git --ttl 2h --owner $$ -- sleep infinity &
scopekeeper run -s agent:spark:main -l nested:agent:spark -n git --owner $O -- sleep infinity &
scopekeeper run -s agent:spark:main -l nested:agent:spark --lifetime session -n git --owner $O -- sleep infinity &
scopekeeper run -s agent:spark:main --lifetime detached -n dev --owner $O -- sleep infinity &
sleep 1
R=$(scopekeeper exec -d -s agent:main:telegram:direct:123456789 -- sh -c 'echo hi; exit 3')
R2=$(scopekeeper exec -d -s agent:main:telegram:direct:123456789 --owner $O -- sleep infinity)
kill $O; wait $O 2>/dev/null
sleep 1
show() { echo "=== $2 cols: $1"; script -qc "stty cols $2; $1" /dev/null </dev/null; }
show "scopekeeper ls" 80
show "scopekeeper ls" 200
show "scopekeeper ls" 40
show "scopekeeper ls --no-trunc" 80
show "scopekeeper ls -a" 80
show "scopekeeper ls --members" 80
show "scopekeeper reconcile --dry-run" 80
show "scopekeeper why agent:main:telegram:direct:123456789" 80
show "scopekeeper policy show" 80
echo == pipe; scopekeeper ls -a | cat
( timeout 3 script -qc "stty cols 80; scopekeeper watch" /dev/null </dev/null ) & sleep 1.5
scopekeeper run -s agent:main:telegram:direct:987654321 -n x -- true
wait %%
timeout 2 scopekeeper watch | cat
scopekeeper stop -s agent:spark:main | tail -3
show "scopekeeper history" 80
show "scopekeeper why agent:spark:main" 80
show "scopekeeper why agent:spark:main" 200
scopekeeper history | cat
scopekeeper why agent:spark:main | cat
scopekeeper ls --json -a | head -60
python3 - <<'P'
import subprocess,resource
for words in (["ls"],["ls","-s","nope"],["ls","--json"]):
    best=[]
    for _ in range(12):
        a=resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["scopekeeper",*words],stdout=subprocess.DEVNULL)
        b=resource.getrusage(resource.RUSAGE_CHILDREN)
        best.append((b.ru_utime+b.ru_stime-a.ru_utime-a.ru_stime)*1e3)
    print(words,"min %.1f median %.1f ms CPU"%(min(best),sorted(best)[6]))
P
scopekeeper stop -s agent:spark:main; for k in $(jobs -p); do kill $k; done
systemctl --user list-units 'scopekeeper-*' --no-legend | awk '{print $1}' | xargs -r systemctl --user stop
