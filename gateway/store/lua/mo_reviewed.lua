#!lua flags=allow-oom
--@include _record
-- A person has read a reply: it leaves the list of those to be read.
--
-- Repeat: it is not there any more. KEYS 1 prefix   ARGV 1 id  2 audit entry   Returns 1 when it was there
local there = call('ZREM', P .. 'moreview', ARGV[1])
if there == 1 then audit(time_ms(), ARGV[2], '', '') end
return there
