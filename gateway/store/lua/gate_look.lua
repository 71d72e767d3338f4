#!lua flags=no-writes
--@include _record
-- Count a slice of the messages that are under a gate, whatever its state: what closing it would end, and what it cannot.
--
-- Repeat: the same while nothing moves.
-- KEYS 1 prefix   ARGV 1 name  2 position ('' begins)  3 most entries to look at  4 channels (US between)
--   5 how long receipts are waited for, s; 0 leaves out what is in workers' hands or submitted
-- Returns  the next position ('' at the end), entries looked at, then pairs: state (`c`: claimed) US category US account, number
local now = time_ms()
local is_under = gate_test(ARGV[1])
local counts, order = {}, {}
local of_place = { ['1'] = 'hfru', ['2'] = 'q', ['3'] = 'q', ['4'] = 'w', ['5'] = 'q', ['6'] = 's' }
local at, looked = walk(ARGV[1], ARGV[4], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5]), now,
  function(id, state, kind, tail, entry)
    if state == '' or not find(of_place[kind], state, 1, true) then return 'stays' end
    if kind == '5' and id .. sub(tail, 13, 18) ~= entry then return 'stays' end -- a claim that holds no more
    local front, dims, extras = front_of(id)
    if front and is_under(front, dims, extras) then
      local name = (kind == '5' and 'c' or state) .. US .. sub(front, 22, 22) .. US .. account_of(dims)
      if not counts[name] then order[#order + 1] = name end
      counts[name] = (counts[name] or 0) + 1
    end
    return 'stays'
  end)
local result = { at, looked }
for i = 1, #order do
  result[#result + 1] = order[i]
  result[#result + 1] = counts[order[i]]
end
return result
