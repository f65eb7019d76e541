-- Reads the limit that an operator has set for all runs (limit_entry.rs), from a key that anybody may have written.
--
-- Returns the limit, or nil; its text, '' if there is none; and whether it ends by itself. A text that is no limit is never ''.
local function read_limit(key)
    local text = redis.pcall('GET', key)
    if not text or text == NO_LIMIT then return nil, '', false end
    -- It may be of another type.
    if type(text) ~= 'string' or text == '' or #text > MAX_LIMIT_TEXT then return nil, '?', false end
    local is_json, entry = pcall(cjson.decode, text)
    local limit = is_json and type(entry) == 'table' and entry.limit
    if type(limit) ~= 'number' or not (limit == 0 or limit >= MIN_RATE and limit <= MAX_RATE) then
        return nil, text, false
    end
    return limit, text, type(entry['until']) == 'number'
end


-- Reads a key that anybody may have written. Returns the answer; or nil and the error to return, if the key is of another type.
local function read(command, key, ...)
    local answer = redis.pcall(command, key, ...)
    local why = type(answer) == 'table' and answer.err
    if not why then return answer end
    return nil, string.find(why, 'WRONGTYPE', 1, true) and redis.error_reply('OTHERTYPE ' .. key) or answer
end
