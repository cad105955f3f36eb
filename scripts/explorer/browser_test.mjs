// Tests the explorer page in a real Chromium.
//
//   npm install playwright-core          in any folder; name it with NODE_PATH if it is not this one
//   node scripts/explorer/browser_test.mjs [--chromium PATH] [--out FOLDER] [--quick] [--frames]
//
// Builds pages with `cargo run -p explorer --example synthetic` (50,000 texts, hostile ones among them, and
// one that talks to a server that this script plays), then checks what a person does with them: search,
// lasso, rename, merge, undo, keyboard, dark mode, comparison, errors of a server. No request may leave the
// page and no script in a text may run. --out keeps screenshots, --quick takes 5,000 texts, --frames prints
// the times between frames while the map moves; without a GPU these are those of a software renderer.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const flag = (name) => process.argv.includes(name);

/** playwright-core from NODE_PATH, the present folder or beside this script. */
function playwright() {
  const places = [...(process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean), path.join(process.cwd(), 'node_modules'), path.join(ROOT, 'node_modules')];
  for (const place of places) {
    try {
      return createRequire(path.join(place, 'x.js'))(path.join(place, 'playwright-core'));
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new Error('playwright-core is not there: npm install playwright-core, and set NODE_PATH to its node_modules');
}

const texts = flag('--quick') ? 5000 : 50000;
const folder = mkdtempSync(path.join(tmpdir(), 'explorer-'));
const shots = option('--out', null);
if (shots) mkdirSync(shots, { recursive: true });

function build(name, ...options) {
  const file = path.join(folder, name);
  execFileSync('cargo', ['run', '--quiet', '-p', 'explorer', '--example', 'synthetic', '--', file, ...options], { cwd: ROOT, stdio: 'inherit' });
  return file;
}

let failures = 0;
function check(what, found, expected = true) {
  const good = JSON.stringify(found) === JSON.stringify(expected);
  if (!good) failures++;
  console.log(`${good ? 'ok  ' : 'FAIL'} ${what}${good ? '' : `: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`}`);
}

/** Messages of the software renderer about itself. */
const harmless = (text) => text.includes('GL Driver Message') || text.includes('Automatic fallback to software WebGL');

/** A page that remembers everything it said and asked for. */
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', acceptDownloads: true, ...options });
  const page = await context.newPage();
  // A software renderer on a busy machine is slow.
  page.setDefaultTimeout(120000);
  page.requests = [];
  page.said = [];
  page.on('request', (request) => page.requests.push(`${request.method()} ${request.url()}`));
  page.on('console', (message) => {
    if (!harmless(message.text())) page.said.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => page.said.push(`error: ${error.message}`));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelectorAll('#list .item').length > 0);
  await page.waitForTimeout(200);
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();
const shoot = async (page, name) => {
  if (!shots) return;
  await page.waitForTimeout(350);
  await page.screenshot({ path: path.join(shots, `${name}.png`) });
};

/** Coloured pixels of the drawn points, as counts of the colours. */
const drawn = async (page) => (await page.locator('#stage').screenshot()).toString('base64');

async function testFile(browser, file) {
  const url = pathToFileURL(file).href;
  const page = await open(browser, url);
  check('the title is text', await text(page, '#title'), 'Synthetic <texts>');
  check('150 categories are listed', await page.locator('#list .item').count(), 150);
  check('WebGL is used', await page.evaluate(() => document.getElementById('points').getContext('webgl2') !== null));
  await shoot(page, 'light');

  // Hostile texts.
  check('no text ran as a script', await page.evaluate(() => window.stolen === undefined));
  check('markup in a name stays text', await page.locator('#list .item .name', { hasText: '<b>bold</b> & "quoted"' }).count(), 1);
  await page.fill('#search', '<script>window');
  await page.waitForFunction(() => document.querySelector('#found').textContent !== '');
  const expected = Math.floor((texts / 500 - 1) / 8) + 1 + (Math.floor((texts / 500 - 2) / 8) + 1) + (Math.floor((texts / 500 - 3) / 8) + 1);
  check('texts with script tags are found', await text(page, '#found'), `${expected} texts`);
  check('and shown as text', (await page.locator('#tab-body .texts li').first().innerText()).includes('<script>window.stolen = 1</script>'));
  check('without elements from texts', await page.locator('#tab-body script, #tab-body img, #list b').count(), 0);
  check('still no script ran', await page.evaluate(() => window.stolen === undefined));
  check('the policy refuses a new script', await page.evaluate(() => {
    try {
      const script = document.createElement('script');
      script.textContent = 'window.stolen = 9';
      document.body.append(script);
    } catch { /* trusted types throw */ }
    return window.stolen === undefined;
  }));
  page.said.length = 0;

  // Search.
  await page.fill('#search', 'I LOST THE card');
  await page.waitForFunction(() => document.querySelector('#tab-body h2')?.textContent.includes('card'));
  const found = await text(page, '#found');
  const counted = await page.evaluate(() => document.querySelectorAll('#tab-body mark').length);
  check('the count is announced', await page.locator('#found').getAttribute('aria-live'), 'polite');
  check('hits are marked', counted > 0 && counted <= 100);
  check('every listed text has the words', await page.evaluate(() => [...document.querySelectorAll('#tab-body .texts button > span:first-child')].every((e) => e.textContent.toLowerCase().includes('i lost the card'))));
  check('the badge agrees with the count', (await text(page, '#tab-texts .badge')).replace(/\D/g, ''), found.replace(/\D/g, ''));
  await shoot(page, 'search');
  await page.fill('#search', 'no such words anywhere');
  await page.waitForFunction(() => document.querySelector('#found').textContent === '0 texts');
  await page.keyboard.press('Escape');
  check('Escape empties the search', await page.inputValue('#search'), '');

  // Pointer: hover, click, lasso.
  const stage = await page.locator('#stage').boundingBox();
  const spot = await page.evaluate(() => {
    // The middle of the largest category: its label is the topmost one drawn, so ask the list.
    document.querySelector('#list .item').click();
    return document.querySelector('#category-name').textContent;
  });
  await page.locator('#category-actions button', { hasText: 'Zoom to it' }).click();
  await page.waitForTimeout(150);
  const middle = [stage.x + stage.width / 2, stage.y + stage.height / 2];
  await page.keyboard.press('Escape');
  // The middle of a category is full of texts, but its very middle need not hit one.
  const near = [...middle];
  for (let i = 0; i < 60 && !(await page.locator('#tooltip').isVisible()); i++) {
    near[0] = middle[0] + 2 * i * Math.cos(i);
    near[1] = middle[1] + 2 * i * Math.sin(i);
    await page.mouse.move(...near);
  }
  check('the tooltip shows a text', await page.locator('#tooltip').isVisible() && (await text(page, '#tooltip')).length > 10);
  await page.mouse.click(...near);
  check('a click selects a category', await page.locator('#category-name').count(), 1);
  check('the list follows', await page.locator('#list .item[aria-selected="true"] .name').innerText(), await text(page, '#category-name'));
  check('the largest category came first', spot.length > 0);
  await page.keyboard.press('Escape');
  await page.keyboard.press('0');
  const ring = Array.from({ length: 24 }, (_, i) => [middle[0] + 150 * Math.cos((i / 24) * 6.283), middle[1] + 130 + 110 * Math.sin((i / 24) * 6.283)]);
  await page.keyboard.down('Shift');
  await page.mouse.move(...ring[0]);
  await page.mouse.down();
  for (const place of ring) await page.mouse.move(...place);
  await shoot(page, 'drawing');
  await page.mouse.up();
  await page.keyboard.up('Shift');
  const lassoed = Number((await text(page, '#tab-body h2')).replace(/\D/g, ''));
  check('the lasso selects texts', lassoed > 0 && lassoed < texts);
  const perCategory = await page.evaluate(() => [...document.querySelectorAll('#tab-body .rows .number')].map((e) => Number(e.textContent.split('·')[0].replace(/\D/g, ''))));
  check('its categories are counted, largest first', perCategory.length > 0 && perCategory.every((n, i) => i === 0 || n <= perCategory[i - 1]) && perCategory.reduce((a, b) => a + b) <= lassoed);
  await shoot(page, 'lasso');
  await page.keyboard.press('Escape');
  await page.keyboard.press('v');
  check('V takes all texts of the whole map', Number((await text(page, '#tab-body h2')).replace(/\D/g, '')), texts);
  await page.keyboard.press('Escape');

  // Rename, merge, undo, save.
  await page.locator('#list .item').nth(1).click();
  await shoot(page, 'category');
  const old = await text(page, '#category-name');
  await page.keyboard.press('r');
  await page.keyboard.type('Lost & <found>');
  await page.keyboard.press('Enter');
  check('a category is renamed', await text(page, '#category-name'), 'Lost & <found>');
  check('in the list too', await page.locator('#list .item[aria-selected="true"] .name').innerText(), 'Lost & <found>');
  await page.locator('#list .item').nth(2).click();
  await page.click('#rename');
  await page.fill('#rename-place input', 'lost & <FOUND>');
  await page.keyboard.press('Enter');
  check('a name that is taken is refused', (await text(page, '#rename-place .problem')).includes('has this name already'));
  await page.keyboard.press('Escape');
  const names = await page.locator('#list .item .name').allTextContents();
  const sizes = (await page.locator('#list .item .size').allTextContents()).map((n) => Number(n.replace(/\D/g, '')));
  await page.locator('#list .item').nth(3).focus();
  await page.keyboard.press('m');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('m');
  check('two are marked', await text(page, '#merge-count'), '2 marked');
  await page.click('#merge');
  check('the dialog proposes the larger name', await page.inputValue('dialog input'), names[3]);
  await shoot(page, 'merge');
  await page.fill('dialog input', 'merged one');
  await page.keyboard.press('Enter');
  check('a merge makes one of two', await page.locator('#list .item').count(), 149);
  check('with the texts of both', await page.locator('.facts dd').first().innerText(), (sizes[3] + sizes[4]).toLocaleString('en'));
  await page.click('#tab-edits');
  await shoot(page, 'edits');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  const list = JSON.parse(readFileSync(await download.path(), 'utf8'));
  check('the saved list has its schema', list.schema, 'asterism/edits/1');
  check('and both edits', list.edits.map((edit) => Object.keys(edit)[0]), ['rename', 'merge']);
  check('the merge says its new id', list.edits[1].merge.into, 150);
  await page.keyboard.press('Control+z');
  check('undo takes the merge back', await page.locator('#list .item').count(), 150);
  await page.keyboard.press('Control+z');
  check('and the rename', (await page.locator('#list .item .name').allTextContents()).includes(old));
  await page.click('#redo');
  check('redo gives it again', (await page.locator('#list .item .name').allTextContents()).includes('Lost & <found>'));
  await page.keyboard.press('Control+z');

  // Keyboard.
  await page.locator('body').click({ position: { x: 2, y: 2 } });
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  check('/ goes to the search', await page.evaluate(() => document.activeElement.id), 'search');
  await page.keyboard.press('Escape');
  check('Escape leads to the map', await page.evaluate(() => document.activeElement.id), 'overlay');
  const before = await drawn(page);
  await page.keyboard.press('ArrowRight');
  await page.waitForTimeout(80);
  const moved = await drawn(page);
  check('arrow keys move the map', before !== moved);
  await page.keyboard.press('+');
  await page.waitForTimeout(80);
  check('plus zooms', moved !== (await drawn(page)));
  for (let i = 0; i < 4; i++) await page.keyboard.press('ArrowUp');
  await page.keyboard.press('0');
  await page.locator('#list .item').first().click();
  await page.locator('#category-actions button', { hasText: 'Zoom to it' }).click();
  await page.keyboard.press('Escape');
  await page.focus('#overlay');
  await page.keyboard.press('Enter');
  check('Enter selects what is in the middle', await page.locator('#category-name').count(), 1);
  check('the focus is visible', await page.evaluate(() => document.activeElement.matches(':focus-visible')));
  await page.keyboard.press('?');
  check('? shows the keys', (await text(page, 'dialog')).includes('Select the texts in view'));
  await shoot(page, 'help');
  await page.keyboard.press('Escape');
  check('Escape closes them and keeps the category', [await page.locator('dialog').count(), await page.locator('#category-name').count()], [0, 1]);
  await page.evaluate(() => document.activeElement.blur());
  await page.focus('.skip');
  const stops = [];
  for (let i = 0; i < 24; i++) {
    await page.keyboard.press('Tab');
    stops.push(await page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('role') || document.activeElement.tagName.toLowerCase()));
  }
  const places = ['search', 'theme', 'filter', 'sort', 'option', 'overlay', 'zoom-in', 'lasso', 'tab-details'].map((id) => stops.indexOf(id));
  check('Tab goes through the page in order', places.every((at, i) => at >= 0 && (i === 0 || at > places[i - 1])) || stops, true);
  check('every control has a name', await page.evaluate(() => [...document.querySelectorAll('button, input, select, canvas[tabindex]')].filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)), []);

  // Colours, legend, comparison, theme.
  await page.keyboard.press('Escape');
  for (const mode of ['Coarse', 'True label', 'New', 'Change']) {
    await page.locator('#colours label', { hasText: mode }).click();
    await shoot(page, `colour-${mode.toLowerCase().replace(' ', '-')}`);
  }
  const legend = await page.locator('#legend button').allInnerTexts();
  check('the legend of changes', legend, ['Same category', 'Moved', 'Not in the other run']);
  await page.locator('#legend button').nth(1).click();
  check('an entry of the legend can be held', await page.locator('#legend button').nth(1).getAttribute('aria-pressed'), 'true');
  await page.click('#tab-compare');
  const facts = await page.locator('.facts dd').allInnerTexts();
  const share = (number) => Number(number.replace(/\D/g, '')) / texts;
  check('about 8 in 100 texts moved, 2 are missing', [share(facts[1]) > 0.06 && share(facts[1]) < 0.1, share(facts[2]) > 0.01 && share(facts[2]) < 0.03], [true, true]);
  check('pairs are listed, largest overlap first', await page.evaluate(() => {
    const numbers = [...document.querySelectorAll('.pairs tbody td:nth-child(3)')].map((e) => Number(e.textContent.replace(/\D/g, '')));
    return numbers.length > 100 && numbers.every((n, i) => i === 0 || n <= numbers[i - 1]);
  }));
  await shoot(page, 'compare');
  await page.keyboard.press('Escape');
  await page.locator('#colours label', { hasText: 'Category' }).click();
  const shade = () => page.evaluate(() => [document.documentElement.dataset.shade, getComputedStyle(document.body).backgroundColor]);
  const light = await shade();
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.waitForFunction(() => document.documentElement.dataset.shade === 'dark', null, { timeout: 5000 }).catch(() => {});
  const dark = await shade();
  check('the page follows the system into the dark', [light[0], dark[0], light[1] !== dark[1]], ['light', 'dark', true]);
  await page.click('#theme');
  check('the switch overrules it', (await shade())[0], 'light');
  await page.click('#theme');
  check('to the dark and back', (await shade())[0], 'dark');
  await page.click('#tab-details');
  await page.locator('#list .item').nth(1).click();
  await shoot(page, 'dark');
  await page.setViewportSize({ width: 800, height: 700 });
  await shoot(page, 'narrow');
  check('nothing sticks out at 800 pixels', await page.evaluate(() => document.documentElement.scrollWidth), 800);
  await page.locator('.tabs .close').click();
  check('the panel can be closed there', await page.evaluate(() => document.querySelector('.panel').classList.contains('closed')));

  check('only the page itself was asked for', page.requests.filter((request) => !request.includes('data:image') && !request.includes('blob:')), [`GET ${url}`]);
  check('nothing was said on the console', page.said, []);
  await page.context().close();

  const plain = await open(browser, `${url}#plain`);
  check('the plain canvas draws too', await plain.evaluate(() => {
    const canvas = document.getElementById('points');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let painted = 0;
    for (let i = 3; i < data.length; i += 4) painted += data[i] > 0;
    return painted > 5000;
  }));
  check('without a word', plain.said, []);
  await plain.context().close();
}

/** Plays the server: categories in memory, a key, errors. */
async function testServer(browser, file) {
  const source = JSON.parse(readFileSync(file, 'utf8').match(/<script type="application\/json" id="data">(.*?)<\/script>/s)[1]);
  const fresh = () => source.categories.map((category) => ({ ...category, status: 'active', name_source: 'keywords', keywords: category.keywords.map(([term, weight]) => ({ term, weight })), nearest: category.nearest.map(([id, cosine]) => ({ id, cosine })) }));
  let history = [fresh()];
  let broken = false;
  const asked = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (part) => { body += part; });
    request.on('end', () => {
      asked.push(`${request.method} ${request.url}`);
      const answer = (status, value) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(value));
      };
      if (request.url === '/explorer') {
        response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': "frame-ancestors 'none'" });
        response.end(readFileSync(file));
        return;
      }
      const now = history.at(-1);
      if (request.method === 'GET') return answer(200, { revision: history.length, categories: now });
      if (request.headers.authorization !== 'Bearer open sesame') return answer(401, { error: { message: 'no key' } });
      if (request.headers['content-type'] !== 'application/json') return answer(415, { error: { message: 'not JSON' } });
      if (broken) return answer(409, { error: { message: 'the name is <taken>' } });
      const asks = JSON.parse(body);
      if (request.url === '/search') {
        const results = [source.texts[40], 'not on the page', source.texts[7]].map((found, row) => ({ row, text: found, cosine: 0.9 - row / 10 }));
        return answer(200, { results });
      }
      const rename = request.url.match(/^\/categories\/(\d+)\/rename$/);
      if (rename) {
        history.push(now.map((category) => (category.id === Number(rename[1]) ? { ...category, name: asks.name, name_source: 'human' } : category)));
      } else if (request.url === '/categories/merge') {
        const into = now.length;
        const parts = now.filter((category) => asks.ids.includes(category.id));
        const size = parts.reduce((sum, part) => sum + part.size, 0);
        history.push([...now.map((category) => (asks.ids.includes(category.id) ? { ...category, status: { merged: { into } } } : category)), { ...parts[0], id: into, name: asks.name, size }]);
      } else if (request.url === '/categories/undo' && history.length > 1) {
        history.pop();
      } else {
        return answer(409, { error: { message: 'nothing to undo' } });
      }
      return answer(200, {});
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const page = await open(browser, `${origin}/explorer`);
  await page.waitForTimeout(200);
  check('a served page reads the categories', asked.includes('GET /categories'));
  await page.locator('#list .item').first().click();
  await page.keyboard.press('r');
  await page.fill('#rename-place input', 'from the page');
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open] input[type=password]');
  await page.fill('dialog input', 'wrong');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('dialog[open]')?.textContent.includes('did not take this key'));
  await page.fill('dialog input', 'open sesame');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#category-name').textContent === 'from the page');
  check('a rename goes to the server, with a key', history.at(-1).some((category) => category.name === 'from the page'));
  check('the key is kept nowhere', await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, '']);
  await page.click('#meaning');
  await page.fill('#search', 'something like it');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#tab-body h2').textContent.includes('near'));
  check('texts of like meaning come in the order of the server', await page.locator('#tab-body .texts button > span:first-child').allTextContents(), [source.texts[40], source.texts[7]]);
  await page.click('#meaning');
  check('and go with the switch', [await text(page, '#found'), await page.inputValue('#search')], ['', '']);
  await page.keyboard.press('Escape');
  await page.click('#tab-details');
  broken = true;
  await page.keyboard.press('r');
  await page.fill('#rename-place input', 'another');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#rename-place .problem').textContent !== '');
  check('what the server objects is shown as text', await text(page, '#rename-place .problem'), 'the name is <taken>');
  await page.keyboard.press('Escape');
  broken = false;
  await page.locator('#category-actions button', { hasText: 'Merge' }).click();
  await page.click('dialog button[type=submit]');
  await page.waitForFunction(() => document.querySelectorAll('#list .item').length === 149);
  check('a merge goes to the server', history.length, 3);
  check('and the texts follow', (await page.locator('#tab-body h3', { hasText: 'Texts on the map' }).innerText()).replace(/\D/g, ''), (await page.locator('.facts dd').first().innerText()).replace(/\D/g, ''));
  await page.keyboard.press('Control+z');
  await page.waitForFunction(() => document.querySelectorAll('#list .item').length === 150);
  check('undo as well', history.length, 2);
  await page.keyboard.press('Control+z');
  await page.waitForTimeout(200);
  await page.keyboard.press('Control+z');
  await page.waitForFunction(() => document.querySelector('.toast.bad')?.textContent === 'nothing to undo');
  check('nothing to undo is said', true);
  // Someone else splits a category: the page cannot know which part a text went to.
  history.push(history.at(-1).map((category, index) => (index === 0 ? { ...category, status: { split: { into: [1, 2] } } } : category)));
  await page.locator('#list .item').nth(5).click();
  await page.keyboard.press('r');
  await page.fill('#rename-place input', 'yet another');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#notice:not([hidden])');
  check('a page that is too old says so', (await text(page, '#notice')).includes('have changed since'));
  check('requests go to the server only', page.requests.every((request) => request.includes(origin) || request.includes('data:')));
  const refused = page.said.filter((said) => !/status of (401|409)/.test(said));
  check('nothing else was said on the console', refused, []);
  await page.context().close();
  await new Promise((resolve) => server.close(resolve));
}

/** Times between frames while the map is dragged and zoomed. */
async function frames(browser, file) {
  const page = await open(browser, pathToFileURL(file).href, { reducedMotion: 'no-preference' });
  const renderer = await page.evaluate(() => {
    const gl = document.createElement('canvas').getContext('webgl2');
    const info = gl?.getExtension('WEBGL_debug_renderer_info');
    return info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : 'unknown';
  });
  console.log(`renderer: ${renderer}`);
  const stage = await page.locator('#stage').boundingBox();
  const [x, y] = [stage.x + stage.width / 2, stage.y + stage.height / 2];
  const measure = async (what, act) => {
    await page.evaluate(() => {
      window.times = [];
      const step = (now) => {
        window.times.push(now);
        window.frame = requestAnimationFrame(step);
      };
      window.frame = requestAnimationFrame(step);
    });
    await act();
    const gaps = await page.evaluate(() => {
      cancelAnimationFrame(window.frame);
      return window.times.slice(1).map((time, i) => time - window.times[i]).sort((a, b) => a - b);
    });
    const at = (share) => gaps[Math.min(gaps.length - 1, Math.floor(share * gaps.length))].toFixed(1);
    console.log(`${what}: ${gaps.length} frames, median ${at(0.5)} ms, 95th percentile ${at(0.95)} ms, longest ${at(1)} ms`);
  };
  await measure('standing still', () => page.waitForTimeout(1500));
  await measure('dragging', async () => {
    await page.mouse.move(x, y);
    await page.mouse.down();
    for (let i = 0; i < 90; i++) {
      await page.mouse.move(x + 180 * Math.sin(i / 9), y + 120 * Math.sin(i / 14));
      await page.waitForTimeout(10);
    }
    await page.mouse.up();
  });
  await measure('zooming with the wheel', async () => {
    for (let i = 0; i < 60; i++) {
      await page.mouse.wheel(0, i < 30 ? -40 : 40);
      await page.waitForTimeout(10);
    }
  });
  const own = await page.evaluate(() => {
    const gaps = [];
    const overlay = document.getElementById('overlay');
    for (let i = 0; i < 60; i++) {
      const started = performance.now();
      overlay.dispatchEvent(new WheelEvent('wheel', { deltaY: i < 30 ? -40 : 40, clientX: 700, clientY: 400, cancelable: true }));
      dispatchEvent(new Event('resize'));
      gaps.push(performance.now() - started);
    }
    return gaps.sort((a, b) => a - b)[30];
  });
  console.log(`one wheel event: ${own.toFixed(2)} ms of script (median)`);
  await page.context().close();
}

const { chromium } = playwright();
const browser = await chromium.launch({
  executablePath: option('--chromium', '/usr/bin/chromium'),
  args: ['--no-sandbox', '--disable-background-networking', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'],
});
try {
  const file = build('page.html', '--texts', String(texts));
  await testFile(browser, file);
  await testServer(browser, build('served.html', '--texts', '3000', '--served'));
  if (flag('--frames')) await frames(browser, file);
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
console.log(failures === 0 ? 'all checks passed' : `${failures} checks failed`);
process.exitCode = failures === 0 ? 0 : 1;
