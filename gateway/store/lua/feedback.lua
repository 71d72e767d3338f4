#!lua
--@include _record
-- Note what a message led to: the link was followed, the code or offer used, a complaint made.
--
-- Promise: state, times and claims of the message stay as they are; one item (kind V) is added to its log:
--   time US outcome US event_id US amount US currency US customer US at (base 36, '' when it was not given).
--   It is counted for the channel that delivered the message, else for the last that took it or may have: statistics
--   (outcome v, reason: the feedback's; amounts under a, complaints by signature too) count each event, ratings each outcome of a message once. Test messages are not counted.
-- Repeat: answers `repeated`.
-- KEYS 1 prefix
-- ARGV 1 id  2 account  3 '1' to count how channels do  4 clicked, converted or complained  5 event_id  6 amount  7 currency
--   8 customer  9 at, ms ('' not given)
-- Returns  done | repeated | conflict (the event_id has other content) | too_many | not_sent | not_found (also for another
--   account's message)
local MOST = 32
local RATED_MS = 7200000 -- as long as counts of channels are kept (see `finish`)
local LETTERS = { clicked = 'k', converted = 'c', complained = 'x' }
local r = fetch({ ARGV[1] })[1]
if not r or account_of(r.dims) ~= ARGV[2] then return 'not_found' end
local outcome, at = ARGV[4], ARGV[9] ~= '' and log_time(tonumber(ARGV[9])) or ''
local content = table.concat({ outcome, ARGV[5], ARGV[6], ARGV[7], ARGV[8], at }, US)

local n, same, again = 0, nil, false -- feedback so far; what this event said before; whether the outcome was told before
local sent_at, last, delivered = {}, nil, nil -- channel → when it took the message (log time); the last one; who delivered
each_item(r.raw, function(kind, payload)
  if kind == 'V' then
    n = n + 1
    local said = sub(payload, find(payload, US, 1, true) + 1)
    local what, event = string.match(said, '^([^\31]*)\31([^\31]*)')
    if event == ARGV[5] then same = said == content end
    if what == outcome then again = true end
  elseif kind == 'A' then
    local time, channel, answer, ids = string.match(payload,
      '^([^\31]*)\31[^\31]*\31([^\31]*)\31?[^\31]*\31?([^\31]*)\31?([^\31]*)')
    if channel and (answer == '' or answer == 'uncertain' or ids ~= '') then
      sent_at[channel], last = time, channel
    end
  elseif kind == 'R' then -- also where the worker died before it could write the attempt
    local time, channel, state = string.match(payload, '^([^\31]*)\31[^\31]*\31([^\31]*)\31([^\31]*)')
    sent_at[channel], last = sent_at[channel] or time, last or channel
    if state == 'D' then delivered = channel end
  end
end)
if same ~= nil then return same and 'repeated' or 'conflict' end
if not last then return 'not_sent' end
if n >= MOST then return 'too_many' end

local now = time_ms()
write_record(r, r.state_at, log_item('V', log_time(now) .. US .. content))
local channel = delivered or last
count(r, channel, 'v', outcome)
if ARGV[6] ~= '' then
  -- In ten-thousandths, the finest that is taken: sums of whole numbers stay exact. What no message can have led to is on
  -- record, but in no sum: a hundred thousand million of whatever it is.
  local whole, part = string.match(ARGV[6], '^0*(%d*)%.?(%d*)$')
  if #whole <= 11 then count(r, channel, 'a', ARGV[7], tonumber('0' .. whole .. sub(part .. '0000', 1, 4))) end
end
if outcome == 'complained' and not r.test then
  local _, _, _, signature = extras_of(r)
  count_td(r.dims, signature, 'complained', now)
end
local taken_at = tonumber(sent_at[channel], 36)
if ARGV[3] == '1' and not r.test and not again and now - taken_at < RATED_MS then
  rate(taken_at, r.dims, r.cat, channel, LETTERS[outcome])
end
finish(now)
return 'done'
