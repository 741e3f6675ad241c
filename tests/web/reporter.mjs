// Node test reporter: a line per test, failures in full, and the closing line `N passed, N failed`.
import { inspect } from 'node:util';

export default async function* reporter(events) {
  const count = { passed: 0, failed: 0, skipped: 0 };
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details?.type === 'suite') continue;
    if (data.skip !== undefined) {
      count.skipped++;
      yield `skip  ${data.name}${typeof data.skip === 'string' ? `: ${data.skip}` : ''}\n`;
    } else if (type === 'test:pass') {
      count.passed++;
      yield `ok    ${data.name} (${Math.round(data.details.duration_ms)} ms)\n`;
    } else {
      count.failed++;
      yield `FAIL  ${data.name}\n${inspect(data.details.error?.cause ?? data.details.error)}\n`;
    }
  }
  if (count.skipped > 0) yield `${count.skipped} skipped\n`;
  yield `${count.passed} passed, ${count.failed} failed\n`;
}
