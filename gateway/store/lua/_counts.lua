-- Statistics: one HINCRBY a distinct field and batch, when the script ends. Two tables deep, because building the whole
-- field for each message costs more than all the rest of counting it.
local stats
local function count_as(dims, suffix, n)
  local by = stats[dims]
  if not by then
    by = {}
    stats[dims] = by
  end
  by[suffix] = (by[suffix] or 0) + n
end

-- The labels a message is counted under: beyond 2,000 combinations of template, campaign and variant an account and day
-- they are `other` (see accept.lua), so that statistics stay small whatever an application writes there.
local function counted_dims(dims, marks)
  if floor(marks / 2) % 2 == 0 then return dims end
  return string.match(dims, '^[^\31]*\31[^\31]*\31[^\31]*\31') .. 'other' .. US .. 'other' .. US .. 'other'
end

local function count(r, channel, outcome, reason, n)
  if not r.test then
    count_as(counted_dims(r.dims, r.marks), r.cat .. US .. channel .. US .. outcome .. US .. reason, n or 1)
  end
end

-- Parts that a carrier took: those beyond the first of a message, and what they cost (millionths of the price's unit).
local function count_parts(dims, cat, channel, more, price, parts)
  local front = cat .. US .. channel .. US
  if more > 0 then count_as(dims, front .. '+' .. US, more) end
  if price > 0 and parts > 0 then count_as(dims, front .. '$' .. US, price * parts) end
end

-- How long a receipt took, as statistics and ratings keep it: up to 2^n seconds, n from 0 to 18.
local function doublings(ms)
  local seconds, n = ms / 1000, 0
  while seconds > 1 and n < 18 do
    seconds, n = seconds / 2, n + 1
  end
  return n
end

-- Opt-outs and complaints by signature and day; what is beyond 10,000 fields a day is `other`.
local function count_td(dims, signature, kind, now)
  local key = P .. 'td:' .. floor(now / 86400000)
  local account, campaign = string.match(dims, '^([^\31]*)\31[^\31]*\31[^\31]*\31[^\31]*\31([^\31]*)')
  local field = account .. US .. campaign .. US .. signature .. US .. kind
  if call('HLEN', key) >= 10000 and call('HEXISTS', key, field) == 0 then
    field = account .. US .. 'other' .. US .. 'other' .. US .. kind
  end
  call('HINCRBY', key, field, 1)
  call('EXPIRE', key, 34560000) -- 400 days
end

-- Events for applications: what an account wants to hear of stands in `consumers` (letters, see Store.set_consumers).
--   They are written with the state, in the same step, to `out:<account>`: kind, time, and the id and record of a message
--   (so that an event may outlive its record), or JSON.
local OUT_MOST = 200000
local consumers, listening, outs
local function wanted(account, letter)
  if not consumers then
    consumers = {}
    local all = call('HGETALL', P .. 'consumers')
    for i = 1, #all, 2 do consumers[all[i]] = all[i + 1] end
    listening = #all > 0
  end
  local letters = consumers[account]
  return letters and find(letters, letter, 1, true) and letters
end

-- Whether anybody wants to hear of anything: asked first where it would cost to find out whose a message is.
local function anybody_listens()
  if not consumers then wanted('', '') end
  return listening
end

local function tell_raw(account, kind, now, payload)
  local list = outs[account]
  if not list then
    list = {}
    outs[account] = list
  end
  list[#list + 1] = kind .. be6(now) .. payload
end

-- An event about a message: `raw` is its record as of now. A text that ends with its message is in no event, which may
-- outlive it by days.
local function tell(account, kind, now, id, raw)
  local letters = wanted(account, kind)
  if letters then
    local keeps = find(letters, 'T', 1, true) and not erases(byte(raw, 22) - 48)
    tell_raw(account, kind, now, id .. (keeps and raw or without_text(raw)))
  end
end

-- Any other event, in JSON.
local function tell_json(account, kind, now, json)
  if wanted(account, kind) then tell_raw(account, kind, now, json) end
end

-- How channels do, by five minutes of submission, channel, carrier and category: `s` submitted, `D` delivered, `f` not
-- delivered, `o` not delivered for the message's own reason, `t<n>` receipts that took up to 2^n s, `k` `c` `x` feedback
-- (clicked, converted, complained). Kept for two hours. Nothing is counted where no route asks for it.
local quality
local function rate(at_ms, dims, cat, channel, what)
  local slot = floor(at_ms / 300000) * 300
  local by = quality[slot]
  if not by then
    by = {}
    quality[slot] = by
  end
  local a = find(dims, US, 1, true)
  local field = channel .. US .. sub(dims, a + 1, find(dims, US, a + 1, true) - 1) .. US .. cat .. US .. what
  by[field] = (by[field] or 0) + 1
end

local function rate_receipt(at_ms, dims, cat, channel, what, now)
  rate(at_ms, dims, cat, channel, what)
  rate(at_ms, dims, cat, channel, 't' .. doublings(now - at_ms))
end

-- Final records are removed by buckets of five minutes (see purge.lua): one push a batch instead of a TTL a key.
local gone
local function keep_until_purged(id, cat, now)
  local list = gone[cat]
  if list then list[#list + 1] = id else gone[cat] = { id } end
end

local waiting_delta

-- Messages that a script ended by itself (time, gates, blacklists), for the caller's logs: id, state, category, parts,
-- attempts, then two bytes for the length of dims US channel US reason US code. No more than a script ends at once.
local ends
local function note_end(r, channel, reason, code)
  local rest = r.dims .. US .. channel .. US .. reason .. US .. code
  ends[#ends + 1] = r.id .. r.state .. char(r.cat, r.parts, r.attempt) .. be2(#rest) .. rest
end

-- Write what the script has gathered. Returns the final states it made, for the caller's metrics: for each kind
-- RS <field of the statistics> US <number>, '' when there were none; then, where it ended messages itself, GS and those
-- (`note_end`).
local function finish(now)
  local key = P .. 'stats:' .. floor(now / 3600000)
  local finals = {}
  for dims, by in pairs(stats) do
    for suffix, n in pairs(by) do
      local field = dims .. US .. suffix
      redis.pcall('HINCRBY', key, field, ms_text(n)) -- a sum that is full must not end a script half-way
      if n > 0 and find(suffix, '^%d\31[^\31]*\31[DUREFCBK]\31') then finals[#finals + 1] = RS .. field .. US .. n end
    end
  end
  for cat, list in pairs(gone) do
    local bucket = math.ceil((now / 1000 + string.match(RETENTION[cat + 1], '^%d+')) / 300) * 300
    for i = 1, #list, 5000 do
      call('RPUSH', P .. 'gone:' .. bucket, unpack(list, i, math.min(i + 4999, #list)))
    end
  end
  for slot, by in pairs(quality) do
    local slot_key = P .. 'quality:' .. slot
    for field, n in pairs(by) do call('HINCRBY', slot_key, field, n) end
    call('EXPIRE', slot_key, 7200)
  end
  local told = false
  for account, list in pairs(outs) do
    local key = P .. 'out:' .. account
    local length = 0
    for i = 1, #list, 5000 do length = call('RPUSH', key, unpack(list, i, math.min(i + 4999, #list))) end
    told = told or length == #list
    if length > OUT_MOST then
      call('LTRIM', key, length - OUT_MOST, -1)
      call('HINCRBY', P .. 'outlost', account, length - OUT_MOST)
    end
  end
  if told then call('PUBLISH', 'gw:wake', 'events') end
  if waiting_delta ~= 0 then call('INCRBY', P .. 'waiting', waiting_delta) end
  if woke then call('PUBLISH', 'gw:wake', P) end
  if #ends > 0 then finals[#finals + 1] = '\29' .. table.concat(ends) end
  return table.concat(finals)
end

-- Visit the ids that are filed in buckets whose time has come, in order, at most `most`; returns how many. A cursor says
-- which bucket is next; when the wall clock went back it follows, so that what is filed since is found.
local function visit_buckets(family, grain, most, now, visit)
  local now_s = floor(now / 1000)
  local current = floor(now_s / grain) * grain
  local key = P .. family .. ':cursor'
  local cursor = tonumber(call('GET', key) or current)
  local first, looked, steps = cursor, 0, 0
  if cursor > current + grain then cursor = current end
  while cursor <= now_s and looked < most and steps < 2000 do
    steps = steps + 1
    local ids = call('LPOP', P .. family .. ':' .. cursor, most - looked)
    if ids then
      looked = looked + #ids
      visit(ids)
    end
    if looked < most then cursor = cursor + grain end
  end
  if cursor ~= first or call('EXISTS', key) == 0 then call('SET', key, cursor) end
  return looked
end

