-- Reads the limit that an operator has set for all runs (limit_entry.rs), from a key that anybody may have written.
--
-- Returns the limit, or nil; its text, '' if there is none; and whether it ends by itself.
local function read_limit(key)
    local text = redis.pcall('GET', key)
    if type(text) ~= 'string' or #text > MAX_LIMIT_TEXT then return nil, '', false end
    local is_json, entry = pcall(cjson.decode, text)
    local limit = is_json and type(entry) == 'table' and entry.limit
    if type(limit) ~= 'number' or not (limit == 0 or limit >= MIN_RATE and limit <= MAX_RATE) then
        return nil, text, false
    end
    return limit, text, type(entry['until']) == 'number'
end

