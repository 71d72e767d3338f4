#!lua flags=allow-oom
--@include _record
-- Apply final receipts to the messages whose parts they name, a batch at a time.
--
-- Promise: the first final receipt of a part counts; the message is final when all its parts are, with the worst state.
--   Only `unknown` and `expired` are corrected, to `delivered`. A receipt whose address is not the message's changes
--   nothing. The SMSC id of a delivered part is forgotten: a receipt that comes again finds it in its message's log.
--   A guessed spelling counts where nothing else can be meant: its message is the only one to that number of late, and
--   the carrier has named all its parts. Else the id is not known yet.
--   An id that nobody knows is that of the one attempt on its channel to its address of which nobody knows what became,
--   when there is exactly one and nothing is under way there that it could belong to.
--   Where a route has redelivery, a failure that is not the message's own asks for a copy on another channel (`redo`)
--   instead of ending it; a message that has its copy ends with the first delivery, or when both have failed.
-- Repeat: a part that is done answers `d`.
-- KEYS 1 prefix
-- ARGV 1-3 retention_s  4 days an SMSC id may be old  5 with '1' to count how channels do, with 'n' to name the messages,
--   with 'f' those that did not simply arrive  6 routes with redelivery: for each
--   RS route US a digit a category, '1' where it is on  7 number of classes, then for each class 6 values: channel, state
--   letter, reason, carrier code, '1' when another channel may do better, '1' when the reason will hold the next time too; then for each item 3 values: class number,
--   address digits (or ''), spellings of its SMSC id, likeliest first (channel:smsc_id, US before each but the first;
--   RS before those that are guesses)
-- Returns  one letter an item in one string: f final | p part noted | r redelivery asked for | d duplicate | c corrected |
--   q known, but as another number's | x known, but as another channel's |
--   n not known | m its record is gone; the place of the spelling that matched, one
--   digit an item (0 none, 9 found by its address); the final states made (see `finish`); where messages are named, for
--   each item its id, state, category, parts, attempts and dims ('' for one that is not named)
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local now = time_ms()
local now_text, now6 = log_time(now), be6(now)
local rated, redelivery = find(ARGV[5], '1', 1, true) ~= nil, nil
local naming, failures_only = find(ARGV[5], '[nf]') ~= nil, find(ARGV[5], 'f', 1, true) ~= nil
if ARGV[6] ~= '' then
  redelivery = {}
  for route, on in string.gmatch(ARGV[6], '\30([^\31]*)\31([^\30]*)') do redelivery[route] = on end
end
local classes, first = {}, 8
for i = 1, tonumber(ARGV[7]) do
  local channel, state, reason, code, again, permanent = unpack(ARGV, first, first + 5)
  classes[tostring(i)] = { channel = channel, state = state, reason = reason, code = code, again = again == '1',
    permanent = permanent == '1' and US .. '1' or '', items = {} }
  first = first + 6
end
local function item_of(cls, part)
  local item = cls.items[part]
  if not item then
    item = log_item('R', now_text .. US .. part .. US .. cls.channel .. US .. cls.state .. US .. cls.reason .. US .. cls.code
      .. cls.permanent)
    cls.items[part] = item
  end
  return item
end

-- Look up all spellings of all ids, then all records.
local n = (#ARGV - first + 1) / 3
local fields, field_at, guessed = {}, {}, {} -- item i has the fields from field_at[i] to field_at[i + 1] - 1
for i = 1, n do
  local names = ARGV[first + i * 3 - 1]
  field_at[i] = #fields + 1
  if find(names, '[\30\31]') then
    for mark, name in string.gmatch(names, '([\30\31]?)([^\30\31]+)') do
      fields[#fields + 1] = name
      guessed[#fields] = mark == '\30'
    end
  else
    fields[#fields + 1] = names
  end
end
field_at[n + 1] = #fields + 1
local values, places = find_smsc_ids(fields, now, tonumber(ARGV[4]))
local ids, keys, place, place_of = {}, {}, {}, {}
for f = 1, #fields do
  if values[f] then
    local id = sub(values[f], 1, ID)
    local at = place[id]
    if not at then
      at = #ids + 1
      ids[at], keys[at], place[id] = id, P .. 'msg:' .. id, at
    end
    place_of[f] = at
  end
end
local raws = #keys > 0 and call('MGET', unpack(keys)) or {}
local records = {} -- those that take the long way, by place: one record may have several items

local function is_address(raw, address)
  local ml = byte(raw, 25)
  local l = ml < 8 and ml or 8
  return sub(raw, 33 + ml - l, 32 + ml) == sub(address, -l)
end

-- Whether no other message to its number, nor another part of it, can be meant.
local function alone(raw)
  local ml, t = byte(raw, 25), #raw - T
  local a1, a2 = byte(raw, t + 9, t + 10)
  if a1 * 256 + a2 ~= 2 ^ byte(raw, 23) - 1 then return false end
  local msisdn, latest = sub(raw, 33, 32 + ml), 0
  for back = 0, 1 do
    local value = call('HGET', num_key(now, back), msisdn)
    if value then latest = math.max(latest, #ids_of_number(value)) end
  end
  return latest <= 1
end

-- The place and part of the message that item i names; else nil and why not.
local function match(i, address)
  local why = 'n'
  for f = field_at[i], field_at[i + 1] - 1 do
    local at = place_of[f]
    if at then
      if not raws[at] then
        if why == 'n' then why = 'm' end
      elseif address ~= '' and is_address(raws[at], address) or address == '' and f == field_at[i] then
        if guessed[f] and not alone(raws[at]) then return nil, 'n' end
        return at, byte(values[f], ID + 1) - 48, f
      else
        why = 'q'
      end
    end
  end
  return nil, why
end

local function loosely(smsc_id)
  return (string.gsub(string.lower(smsc_id), '^0+', ''))
end

-- The part of a message that an unknown id can only name: the one the carrier has not accepted yet.
local function open_part(raw)
  local parts, t = byte(raw, 23), #raw - T
  if parts == 1 then return 0 end
  local a1, a2 = byte(raw, t + 9, t + 10)
  local part = nil
  for k = 0, parts - 1 do
    if not has(a1 * 256 + a2, 2 ^ k) then
      if part then return nil end
      part = k
    end
  end
  return part
end

-- The same by the recipient's number: the SMSC id stands in the log of one of its latest messages, or the receipt is that
-- of the one attempt nobody knows the outcome of (then the number of that attempt as well).
local function match_by_number(i, address, channel, state)
  local value = call('HGET', num_key(now, 0), address) or call('HGET', num_key(now, 1), address)
  if not value then return nil end
  local wanted = {}
  local latest = ids_of_number(value)
  for f = field_at[i], field_at[i + 1] - 1 do
    if not guessed[f] or #latest <= 1 then wanted[loosely(sub(fields[f], #channel + 2))] = true end
  end
  local under_way, lost, others = {}, {}, false
  local function known(id, raw)
    local at = place[id]
    if not at then
      at = #ids + 1
      ids[at], keys[at], place[id], raws[at] = id, P .. 'msg:' .. id, at, raw
    end
    return at
  end
  for k = #latest, 1, -1 do
    local id = latest[k]
    local at = place[id]
    local raw = at and raws[at] or not at and call('GET', P .. 'msg:' .. id)
    local part = nil
    if raw then
      each_attempt(raw, function(by, smsc_ids)
        for number, smsc_id in string.gmatch(smsc_ids, '(%d+)=([^,]*)') do
          if wanted[loosely(smsc_id)] then
            if by == channel then part = tonumber(number) else others = true end
          end
        end
      end)
    end
    if part then return known(id, raw), part end
    if raw then
      local was = char(byte(raw, #raw - T + 1))
      if was == 'q' then under_way[#under_way + 1] = { id, raw } end
      local number, attempts = uncertain_attempt(raw, channel)
      if number and find('qrwfusKE', was, 1, true) then
        lost[#lost + 1] = { id = id, raw = raw, number = number, attempts = attempts }
      end
    end
  end
  if others then return nil, 'x' end
  local one = lost[1]
  if #lost ~= 1 or (one.attempts > 1 and state ~= 'D') then return nil end
  for _, q in ipairs(under_way) do
    local field = holder(read_record(q[1], q[2]))
    if field and sub(field, find(field, US, 1, true) + 1) == channel then return nil end
  end
  local part = open_part(one.raw)
  if part then return known(one.id, one.raw), part, one.number end
end

local ALL_PARTS = 16 -- named by the id of a message that went as one submit_sm (see store/moves.py)
local worse = { D = 1, K = 2, E = 3, U = 4, R = 5 }

-- What the end of a message is counted with: how long the carrier took (`D`), else why its worst part failed.
local function counted_reason(r, channel)
  if r.state == 'D' then
    local since = (r.parts > 1 or has(r.flags, 64) or r.was ~= 's') and taken_at(r.raw, channel) or r.state_at
    return 't' .. doublings(now - since)
  end
  return r.worst_reason or reason_of(r.raw, r.state) or ''
end

-- Whether a failure asks for a copy on another channel.
local function may_redeliver(r, channel, again)
  if not (again and redelivery) or r.state ~= 's' or r.flags >= 32 or r.expires_at <= now then return false end
  if elsewhere(r.raw, channel) then return false end -- it was sent twice already
  local on = redelivery[string.match(route_of(r.dims), '^[^~]*')]
  return on and sub(on, r.cat + 1, r.cat + 1) == '1'
end

-- Every case but the plain one.
local function apply(r, part, channel, state, reason, item, again, number)
  local mask = part == ALL_PARTS and 2 ^ r.parts - 1 or 2 ^ part -- `has` says of all parts whether all of them are
  local closed = find('DUREKCFB', r.state, 1, true)
  if find('CFB', r.state, 1, true) then return 'd' end
  if number and state ~= 'D' and not closed and r.attempt > tonumber(number)
    and (r.state == 's' or r.state == 'q' and held(r)) then
    write_record(r, r.state_at, item) -- its copy is out: that one's receipt decides
    return 'p'
  end
  if state ~= 'D' and r.state == 's' and not has(r.done, mask) then
    if may_redeliver(r, channel, again) then
      r.flags = r.flags + 32
      write_record(r, r.state_at, item) -- the time of the submission stands
      call('RPUSH', P .. 'redo', r.id)
      return 'r'
    elseif has(r.flags, 32) and not has(r.flags, 64) then
      if last_failure(r.raw) then return 'd' end -- asked for by a failure already
      if again then
        write_record(r, r.state_at, item) -- asked for by the clock: what is decided knows of the failure now
        return 'p'
      end
      r.flags = r.flags - 32 -- of no use any more
    end
  end
  if has(r.flags, 64) and not closed then
    if state ~= 'D' and (r.state ~= 's' or elsewhere(r.raw, channel)) then
      -- One of two failed; the other may still be delivered.
      if told(r.raw, channel, part, state) then return 'd' end
      write_record(r, r.state_at, item)
      if r.state == 's' then look_again(r, now, 300) end
      return 'p'
    end
    if state == 'D' and has(r.done, mask) and not has(r.delivered, mask) then r.done = r.done - mask end
  end
  if has(r.done, mask) and not (state == 'D' and not has(r.delivered, mask) and closed) then return 'd' end
  if not has(r.done, mask) then
    r.done = bit.bor(r.done, mask)
    if r.worst == '-' or worse[state] > worse[r.worst] then r.worst, r.worst_reason = state, reason end
  end
  if state == 'D' then r.delivered = bit.bor(r.delivered, mask) end
  local all = 2 ^ r.parts - 1
  if has(r.flags, 64) and r.delivered == all then r.worst = 'D' end
  if closed then
    -- Closed before this receipt: only unknown and expired are corrected, when every part is delivered.
    local answer = 'd'
    if (r.state == 'K' or r.state == 'E') and r.delivered == all then
      local by, why = counted_as(r.raw, r.state)
      count(r, by, r.state, why, -1)
      r.state, r.worst = 'D', 'D'
      r.flags = bit.bor(r.flags, 2)
      count(r, channel, 'D', 'late_correction')
      answer = 'c'
    end
    write_record(r, now, item)
    if answer == 'c' and anybody_listens() then
      local account = account_of(r.dims)
      if wanted(account, 'c') then tell(account, 'c', now, r.id, call('GET', P .. 'msg:' .. r.id)) end
    end
    return answer
  end
  -- A copy that waits is cancelled by this; one that a worker holds no longer counts as waiting.
  local waits = find('rhfw', r.state, 1, true) or (r.state == 'q' and not held(r))
  r.flags = bit.bor(r.flags, 8)
  if r.done == all then
    if waits then waiting_delta = waiting_delta - 1 end
    r.was, r.state = r.state, r.worst
    write_record(r, now, item)
    count(r, channel, r.state, counted_reason(r, channel))
    ended(r, now)
    return 'f'
  end
  write_record(r, r.state == 'q' and r.state_at or now, item) -- a claim holds as long as the time stands
  return 'p'
end

-- What a receipt says of its channel: delivered, failed, or failed for the message's own reason.
local function judged(cls)
  return cls.state == 'D' and 'D' or cls.again and 'f' or 'o'
end

-- The price of a part in an attempt, as the log has it ('': a reaped worker could not say).
local function price_of(raw, number, channel)
  local price = ''
  each_item(raw, function(kind, payload)
    if kind == 'A' then
      local n, by, last = string.match(payload,
        '^[^\31]*\31([^\31]*)\31([^\31]*)\31[^\31]*\31[^\31]*\31[^\31]*\31?([^\31]*)$')
      if n == number and by == channel then price = last end
    end
  end)
  return price
end

-- An attempt of which nobody knew what became was accepted after all: its log, what it costs, and the flag of a copy that
-- never went.
local function settled_by_receipt(r, number, channel, smsc_id, part, item)
  local price = price_of(r.raw, number, channel)
  r.accepted = bit.bor(r.accepted, 2 ^ part)
  count(r, channel, 's', '')
  if price ~= '' and not r.test then count_parts(counted_dims(r.dims, r.marks), r.cat, channel, 0, tonumber(price), 1) end
  if r.attempt == 1 and find('uqrf', r.state, 1, true) and not (r.state == 'q' and held(r)) then
    r.flags = bit.band(r.flags, 254)
  end
  return log_item('A', now_text .. US .. number .. US .. channel .. US .. '0' .. US .. US .. part .. '=' .. smsc_id
    .. (price ~= '' and US .. price or '')) .. item
end

local final = {} -- category → channel → state → reason → what statistics call it
local function final_as(cat, channel, state, reason)
  local key = state .. reason
  local by = final[channel]
  if not by then
    by = { [0] = {}, {}, {} }
    final[channel] = by
  end
  local suffix = by[cat][key]
  if not suffix then
    suffix = cat .. US .. channel .. US .. state .. US .. reason
    by[cat][key] = suffix
  end
  return suffix
end

local touched, answers, matched, delivered, names = {}, {}, {}, {}, {}
local erase_of, listens = { [0] = erases(0), erases(1), erases(2) }, anybody_listens()
for i = 1, n do
  local b = first + (i - 1) * 3
  local cls, address = classes[ARGV[b]], ARGV[b + 1]
  local channel, state, reason = cls.channel, cls.state, cls.reason
  local at, part, f = match(i, address)
  local answer, number = part, nil
  if not at and part == 'n' and address ~= '' then
    local found, of, attempt = match_by_number(i, address, channel, state)
    if found then
      at, part, number = found, of, attempt
    elseif of then
      answer = of
    end
  end
  if at then
    local raw = raws[at]
    local t = #raw - T
    local was, rank, attempt, flags, d1, d2, _, _, a1, a2, _, slow = byte(raw, t + 1, t + 12)
    if was == 115 and byte(raw, 23) == 1 and not touched[at] and d1 == 0 and d2 == 0 and not number
      and (state == 'D' or flags < 32 and not (cls.again and redelivery)) then
      -- The plain case: one part, submitted, its first receipt.
      touched[at] = true
      local back = item_of(cls, part) .. state .. char(rank, attempt, bit.bor(flags, 8), 0, 1, 0,
        state == 'D' and 1 or 0, a1, a2) .. state .. char(slow) .. now6 .. sub(raw, t + 19)
      local cat, marks = byte(raw, 22) - 48, byte(raw, 24)
      local ml, dl1, dl2 = byte(raw, 25, 27)
      local dims = sub(raw, 33 + ml, 32 + ml + dl1 * 256 + dl2)
      local erase, account = erase_of[cat], nil
      if listens then
        account = account_of(dims)
        account = wanted(account, 'f') and account
      end
      if erase or account then
        local whole = sub(raw, 1, t) .. back
        if account then tell(account, 'f', now, ids[at], whole) end
        call('SET', keys[at], erase and without_text(whole) or whole)
      else
        call('SETRANGE', keys[at], t, back)
      end
      keep_until_purged(ids[at], cat, now)
      if marks % 2 == 0 then
        local since = de6(raw, t + 13)
        count_as(marks > 1 and counted_dims(dims, marks) or dims,
          final_as(cat, channel, state, state == 'D' and 't' .. doublings(now - since) or reason), 1)
        if rated then rate_receipt(since, dims, cat, channel, judged(cls), now) end
      end
      answer = 'f'
    else
      if touched[at] == true then
        records[at] = read_record(ids[at], call('GET', keys[at]))
      elseif not records[at] then
        records[at] = read_record(ids[at], raw)
      end
      touched[at] = 'long'
      local r, item = records[at], item_of(cls, part)
      if number then item = settled_by_receipt(r, number, channel, sub(fields[field_at[i]], #channel + 2), part, item) end
      local since, was_submitted = r.state_at, r.state == 's'
      answer = apply(r, part, channel, state, reason, item, cls.again, number)
      if rated and was_submitted and not r.test and (answer == 'f' or answer == 'r') then -- once a message
        if has(r.flags, 64) or r.parts > 1 then since = taken_at(r.raw, channel) or since end
        rate_receipt(since, r.dims, r.cat, channel, r.state == 'D' and 'D' or judged(cls), now)
      end
      -- Its log has grown, and counts: read anew for the next item.
      if r.flags >= 32 or answer == 'f' then touched[at] = true end
    end
    if state == 'D' and f then
      local list = delivered[places[f]]
      if list then list[#list + 1] = fields[f] else delivered[places[f]] = { fields[f] } end
    end
  end
  if naming then
    names[i] = ''
    if at and answer ~= 'd' and not (failures_only and state == 'D' and answer ~= 'c') then
      local raw, r = raws[at], records[at]
      local ml, dl1, dl2 = byte(raw, 25, 27)
      names[i] = ids[at] .. (touched[at] and r and r.state or state) .. char(byte(raw, 22) - 48, byte(raw, 23))
        .. char(tonumber(number) or byte(raw, #raw - T + 3)) .. sub(raw, 33 + ml, 32 + ml + dl1 * 256 + dl2)
    end
  end
  answers[i] = answer
  matched[i] = number and 9 or f and f - field_at[i] + 1 or 0
end
for key, list in pairs(delivered) do call('HDEL', key, unpack(list)) end
return { table.concat(answers), table.concat(matched), finish(now), names }
