#!python
# The program an MTA runs, installed as bsmtp-batch-deliver, to be started as PYTHON -I -S. Python compiles this
# file at every start, so it says where the modules are and what happens when they are not, and nothing more.
import gc
import posix
import sys

try:
    gc.disable()  # a process of a few milliseconds has no garbage worth a search
    # With -S nothing has put the packages on the path. The interpreter is asked where they are and not this file, which
    # may be reached through a link from anywhere.
    home = sys.executable.rpartition("/bin/")[0] + "/lib/python%d.%d/site-packages" % sys.version_info[:2]  # noqa: UP031 - an f-string takes longer to compile than all the rest
    sys.path.insert(0, home + "/bsmtp_batch/deliver/merged")
    try:
        import bsmtp_batch_deliver as deliver  # type: ignore[import-not-found]  # made when the package is built
    except ImportError:  # a working copy, or packages that are somewhere else
        import site

        site.main()
        from bsmtp_batch.deliver import main as deliver
    deliver.run(sys.argv)
except BaseException as error:  # noqa: BLE001 - an exception that reaches the interpreter is a bounce
    try:
        posix.write(1, b"4.3.0 bsmtp-batch cannot start; your MTA keeps the mail. Install it again. %a\n" % error)
    finally:
        posix._exit(75)
