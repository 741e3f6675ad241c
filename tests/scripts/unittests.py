"""Runs the unit tests of a folder and says how many passed in the words scripts/test counts by."""
import sys
import unittest

suite = unittest.defaultTestLoader.discover(sys.argv[1])
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(suite)
failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
sys.exit(0 if result.testsRun > 0 and failed == 0 else 1)
