"""Peak memory of a program: python -I -S peak.py INPUT PROGRAM [ARGUMENT]... prints its status and KiB.

The program reads INPUT from a pipe. A bare Python starts it, because the kernel counts the memory of the parent into a
child's peak.
"""

import posix
import sys

end, start = posix.pipe()
posix.set_inheritable(start, True)
feeder = posix.fork()
if not feeder:
    posix.dup2(start, 1)
    posix.close(end)
    posix.close(start)
    posix.execv("/bin/cat", ["cat", sys.argv[1]])
posix.close(start)
actions = [(posix.POSIX_SPAWN_DUP2, end, 0), (posix.POSIX_SPAWN_DUP2, 2, 1)]
child = posix.posix_spawn(sys.argv[2], sys.argv[2:], posix.environ, file_actions=actions)
posix.close(end)
_, status, usage = posix.wait4(child, 0)
posix.waitpid(feeder, 0)
print(status, usage.ru_maxrss)
