#!/usr/bin/env python3
"""Writes cases.json: templates, what they are given, and what Jinja 3 makes of them.

    make_cases.py > cases.json      (needs the package jinja2)

The environment is the one chat templates are rendered in: trim_blocks, lstrip_blocks, loop controls,
a sandbox, raise_exception, and a tojson that keeps characters as they are."""
import json
import sys

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi \u00e9 \"you\""},
    {"role": "assistant", "content": "Hello.", "tool_calls": [
        {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2.5, None, True]}}}]},
    {"role": "tool", "content": "3", "name": "add"},
    {"role": "user", "content": "  spaced  \n"},
]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds\nnumbers", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}]
CONTEXT = {"messages": MESSAGES, "tools": TOOLS, "bos_token": "<s>", "eos_token": "</s>",
           "add_generation_prompt": True, "n": 7, "x": 2.5, "s": "Hello World", "empty": [], "none": None,
           "d": {"b": 1, "a": 2, "c": {"k": "v"}}, "l": [3, 1, 2], "words": ["b", "A", "c"]}

EXPRESSIONS = """
1 + 2 * 3 - 4
7 // 2
-7 // 2
7 % 3
-7 % 3
2 ** 10
7 / 2
6 / 2
1.5 + 1
0.1 + 0.2
1e3
100000.0
1e16
n > 3 and n < 10
1 < n < 5
n == 7 or undefined_name
not n
'a' ~ 1 ~ none ~ true
'ab' * 3
[1, 2] + [3]
[0] * 3
'b' in 'abc'
'z' not in 'abc'
2 in l
'a' in d
'yes' if n else 'no'
'yes' if empty else 'no'
('only' if empty)
l[0]
l[-1]
l[5]
l[1:]
l[::-1]
l[:-1]
s[0:5]
s[-5:]
s[::2]
s[::-1]
d.a
d['b']
d.missing
d.c.k
d
l
words
messages[0]
messages[1:2]
true
None
x
'it\\'s'
"a\\nb"
['it\\'s', "q\\"", 'line\\n']
s | upper
s | lower
'hello world' | capitalize
'hello world-wide' | title
'  x ' | trim
s | length
l | length
d | length
l | sort
l | sort(reverse=true)
words | sort
words | sort(case_sensitive=true)
messages | map(attribute='role') | join(',')
messages | selectattr('role', 'equalto', 'user') | list | length
messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | list
messages | selectattr('tool_calls') | list | length
messages | selectattr('tool_calls', 'defined') | map(attribute='content') | first
l | select('odd') | list
l | reject('odd') | list
l | map('string') | join('-')
words | map('upper') | list
l | first
l | last
empty | first
l | sum
l | max
l | min
l | reverse | list
'abc' | reverse
[1, 1, 2] | unique | list
d | items | list
d | dictsort
d.items() | list
d.keys() | list
d.values() | list
d.get('a')
d.get('z')
d.get('z', 9)
d | tojson
l | tojson
messages[2] | tojson
tools | tojson(indent=2)
'a"b\\\\c\\n\\u00e9' | tojson
none | tojson
2.0 | tojson
nothing | default('x')
'' | default('x', true)
none | default('x')
none | d('x', true)
'3.7' | float
'3' | int
3.9 | int
'x' | int(5)
2.567 | round(2)
2.5 | round
-3 | abs
'<a href="x">' | escape
'a b c' | replace(' ', '-')
'a\\nb' | indent(2)
'one two  three' | wordcount
'a,b,c'.split(',')
'a b  c'.split()
'a,b,c'.split(',', 1)
'a,b,c'.rsplit(',', 1)
' x '.strip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'abc'.startswith('ab')
'abc'.startswith(('x', 'a'))
'abc'.endswith('bc')
'abc'.upper()
'abc'.find('c')
'abc'.find('z')
'banana'.count('an')
'a-b'.replace('-', '+')
', '.join(words)
'12'.isdigit()
'%s and %s' % ('a', 'b')
'%d%%' % 5
range(5) | list
range(2, 8, 3) | list
range(5, 0, -2) | list
n is defined
zz is defined
zz is undefined
zz is not defined
none is none
n is number
n is integer
x is float
s is string
l is sequence
l is iterable
d is mapping
l is mapping
true is boolean
true is true
n is odd
n is even
n is divisibleby 7
n is eq 7
3 is in l
'ABC' is upper
n is sameas 7
s is not none and s is string
namespace(a=1).a
dict(a=1, b=2)
(1, 2) | list
1 if true else 2 if false else 3
not true and false
- 3 + 5
-2 ** 2
'a' 'b'
l|length > 2
messages[0].content.split(' ')[1]
messages | length - 1
l is defined and l
[] or 'none'
'x' and 'y'
{'a': 1, "b": [1, {'c': 2}]}
{} | length
(-1) ** 9223372036854775807
1 ** 99
2 ** 62
(-2) ** 63
0 ** 0
range(9223372036854775806, 9223372036854775807) | list
range(-9223372036854775807, 9223372036854775807, 9223372036854775807) | list
range(9223372036854775807, -9223372036854775807, -9223372036854775807) | list
range(5, 5) | list
range(0, -3) | list
l[::-9223372036854775807]
l[::9223372036854775807]
l[-9223372036854775807:9223372036854775807]
s[::-9223372036854775807]
s[2:-2]
s[-3:100]
s[5:2]
'h\u00e9llo\u20ac'[1:3]
'h\u00e9llo\u20ac'[-1]
'h\u00e9llo\u20ac'[::-2]
'h\u00e9llo\u20ac' | length
(1, 2, 3)[1:]
'0x10' | int
'0x10' | int(base=16)
'0b11' | int(0, 2)
'0o17' | int(base=8)
'9007199254740993' | int
'-9223372036854775808' | int
'1_000' | int
' 12 ' | int
'12.7' | int
'-12.7' | int
'1e3' | int
'inf' | int
'nan' | int(3)
'0x10' | float
'1_0.5' | float
' 2.5 ' | float
'inf' | float
'' | float(1.5)
'_1' | int
'+7' | int
'+-7' | int
3 | round
3 | round(2)
15 | round(-1)
25 | round(-1)
-15 | round(-1)
-17 | round(-1)
3 | round(0, 'floor')
true | round
2.675 | round(2)
0.5 | round
1.5 | round
-2.5 | round
1234.5 | round(-2)
2.1 | round(1, 'ceil')
2.19 | round(1, 'floor')
2.19 | round(precision=1)
2.5 | round(method='ceil')
2.5 | round(0, 'other')
n is in [1, 7]
n is in (1, 2)
n is not in [1, 7]
'a' is in {'a': 1}
n is in [1, 7] and true
n is divisibleby(num=7)
n is eq(7, 8)
n is odd(1)
n is eq
s is in 'Hello World!'
'a,b,c'.split(sep=',')
'a,b,c'.split(',', maxsplit=1)
'a b c'.split(maxsplit=1)
' a b c '.split(None, 1)
' a b c '.rsplit(None, 1)
'a b c'.rsplit(maxsplit=1)
'a,b,c'.rsplit(sep=',', maxsplit=1)
'aaa'.rsplit('aa', 1)
'aaaaa'.split('aa')
'aaaaa'.rsplit('aa')
',a,,b,'.split(',')
',a,,b,'.rsplit(',', 2)
'a,b'.split(delimiter=',')
'a,b'.split(',', 1, 2)
'a b'.split(1)
''.split()
''.split(',')
' x '.strip(chars='x')
'\u00e9x\u00e9'.strip('\u00e9')
'\u00e9x'.lstrip('\u00e0')
'x'.upper(1)
'abc'.startswith()
'abc'.startswith(prefix='a')
'a\nb\r\nc\rd\n'.splitlines()
'a\n\nb'.splitlines()
'a\nb\n'.splitlines(true)
'a\nb'.splitlines(keepends=true)
''.splitlines()
'a\u2028b\x0bc\x85d'.splitlines()
'prefix-x'.removeprefix('prefix-')
'prefix-x'.removeprefix('x')
'x.txt'.removesuffix('.txt')
'x'.removesuffix('xx')
'x'.removesuffix('')
'aXbX'.replace('X', 'y', 1)
'aXb' | replace(old='X', new='y')
'aXbX' | replace('X', 'y', count=1)
'aXbX' | replace('X', 'y', -1)
'a' | replace(from='a', to='b')
d.get('z', default=9)
d.get()
d.items(1)
d | dictsort(by='value', reverse=true) | length
{'b': 1, 'a': 2} | dictsort(by='value')
{'b': 1, 'a': 2} | dictsort(false, 'key', true)
l | sort(backwards=true)
l | sort(true, reverse=true)
l | batch(2) | list
l | batch(2, 'x') | list
l | batch(linecount=5, fill_with=0) | list
l | batch(3, 'x') | list
empty | batch(3) | list
'abcde' | batch(2) | map('join') | list
messages | groupby('role') | map(attribute='grouper') | list
messages | groupby('role') | map(attribute=0) | list
(messages | groupby('role'))[0].list | length
(messages | groupby('role'))[2][1] | map(attribute='content') | list
[{'k': 'b', 'v': 1}, {'k': 'A', 'v': 2}, {'k': 'B', 'v': 3}] | groupby('k')
[{'k': 'b', 'v': 1}, {'k': 'A', 'v': 2}, {'k': 'B', 'v': 3}] | groupby('k', case_sensitive=true)
['b', 'A', 'c'] | min
['b', 'A', 'B'] | max
['b', 'A', 'c'] | max(case_sensitive=true)
messages | min(attribute='role') | length
['a', 'A', 'b'] | unique | list
['a', 'A', 'b'] | unique(case_sensitive=true) | list
messages | unique(attribute='role') | map(attribute='role') | list
messages | map(attribute='none_such', default='-') | list
messages | map(attribute='role', standard='-') | list
words | map('replace', 'b', 'x') | list
words | map('replace', old='b', new='x') | list
l | select('gt', 1) | list
l | select('in', [1, 2]) | list
l | sum(start=10)
[{'a': 1}, {'a': 2}] | sum(attribute='a')
[{'a': 1}, {'a': 2}] | sum('a', 5)
l | join(', ')
l | join(d='-')
messages | join(',', attribute='role')
d | tojson(indent=1)
'a b' | trim(chars='a')
'a b' | trim('b')
'x' | upper(1)
'x' | default('y', boolean=true)
'x' | default(default='y')
range(1, 2, 3, 4) | list
range(stop=3) | list
dict({'a': 1}, b=2)
namespace({'a': 1}, b=2).b
'%d' % 'x'
'%s' % (1, 2)
'%s %s' % (1,)
[1, 2] == [1, 2]
[1, [2, {'a': 3}]] == [1, [2, {'a': 3}]]
[1, 2] < [1, 3]
{'a': 1} == {'a': 1.0}
[true] == [1]
'x' in none
0.1 * 3
[1.5, 'a', none]
'tab\tquote\'s "x"'
['tab\tquote\'s "x" \x01 \u00e9 \\']
""".strip().split("\n")

TEMPLATES = [
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ ':' if loop.first }}{{ m.role }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index0 }}{{ loop.last }}{{ m.content | trim }};{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %}",
    "{% for x in empty %}a{% else %}none{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{{ loop.previtem if loop.previtem is defined else '-' }}{{ loop.nextitem if loop.nextitem is defined else '-' }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}",
    "{% set a = 1 %}{% for x in l %}{% set a = x %}{% endfor %}{{ a }}",
    "{% set ns = namespace(a=1, found=false) %}{% for x in l %}{% set ns.a = ns.a + x %}{% set ns.found = true %}{% endfor %}{{ ns.a }}{{ ns.found }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set t %}one {{ n }}{% endset %}[{{ t }}]",
    "{% set t | upper | trim %} one {% endset %}[{{ t }}]",
    "{% macro f(a, b=2) %}<{{ a }}{{ b }}>{% endmacro %}{{ f(1) }}{{ f(1, b=3) }}{{ f(b=4, a=5) }}{{ f() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro wrap() %}({{ caller() }}){% endmacro %}{% call wrap() %}in{{ n }}{% endcall %}",
    "{% filter upper %}abc{{ s }}{% endfilter %}",
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n   {% if true %}\n  b\n   {% endif %}\nc",
    "a   {%- if true -%}   b   {%- endif -%}   c",
    "a {{- 1 -}} b",
    "x {# a comment #}\ny {#- trimmed -#} z",
    "  {# lead #}  text",
    "a {%+ if true %}b{% endif %}",
    "{{ '{{' }}{% raw %}{{ not }} {% if %}{% endraw %}!",
    "{{ 1 }}\n{{ 2 }}\n\n",
    "{% if n == 1 %}1{% elif n == 7 %}7{% else %}x{% endif %}",
    "{% if n == 1 %}1{% elif n == 2 %}2{% else %}x{% endif %}",
    "{% if messages[0]['role'] == 'system' %}{% set sys = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ sys }}|{{ rest | length }}",
    "{{ raise_exception('Roles must alternate') }}",
    "{{ undefined_thing.attribute }}",
    "{{ l | nofilter }}",
    "{{ 1 / 0 }}",
    "{{ 'a' + 1 }}",
    "{{ none.x.y }}",
    "{{ undefined_function(1) }}",
    "{% for m in messages[::-1] %}{% set i = messages | length - 1 - loop.index0 %}{{ i }}{{ m.role[0] }} {% endfor %}",
    "{%- set ns = namespace(last=-1) %}\n{%- for m in messages %}\n    {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}\n{%- endfor %}\n{{ ns.last }}",
    "{{ '<|im_start|>' + messages[1]['role'] + '\\n' + messages[1]['content'] + '<|im_end|>' + '\\n' }}",
    # in the manner of several families
    "{{ bos_token }}{% for m in messages %}{{ '<|start|>' ~ m['role'] ~ '<|end|>\\n\\n' ~ (m['content'] | trim) ~ '<|eot|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\\n\\n' }}{% endif %}",
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n        {{- messages[0].content + '\\n\\n' }}\n    {%- endif %}\n    {{- '# Tools\\n<tools>' }}\n    {%- for tool in tools %}\n        {{- '\\n' }}\n        {{- tool | tojson }}\n    {%- endfor %}\n    {{- '\\n</tools><|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if message.role == 'assistant' and message.tool_calls %}\n        {%- for tool_call in message.tool_calls %}\n            {%- if tool_call.function %}\n                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n            {{- '<tool_call>\\n{\"name\": \"' + tool_call.name + '\", \"arguments\": ' }}\n            {{- tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson }}\n            {{- '}\\n</tool_call>' }}\n        {%- endfor %}\n    {%- elif message.role == 'tool' %}\n        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}\n        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}\n    {%- endif %}\n{%- endfor %}",
    "{% for message in messages if message.role != 'system' and message.role != 'tool' %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}",
    "{%- macro render(item, depth=0) -%}{%- if item is mapping -%}{%- for k, v in item | dictsort -%}{{ '  ' * depth }}{{ k }}:{{ '\\n' }}{{ render(v, depth + 1) }}{%- endfor -%}{%- elif item is iterable and item is not string -%}{%- for v in item -%}{{ render(v, depth) }}{%- endfor -%}{%- else -%}{{ '  ' * depth }}{{ item }}{{ '\\n' }}{%- endif -%}{%- endmacro -%}{{ render(tools[0]) }}",
    # what stands around a macro, a call block, a loop
    "{% macro wrap() %}({{ caller() }}){% endmacro %}{% for x in l %}{% call wrap() %}in{{ x }}{{ loop.index }}{% endcall %}{% endfor %}",
    "{% macro each(items) %}{% for i in items %}{{ caller(i) }};{% endfor %}{% endmacro %}{% for x in [10, 20] %}{% call(y) each(l) %}{{ x + y }}{% endcall %}{% endfor %}",
    "{% macro outer() %}{% set a = 'o' %}{% call inner() %}{{ a }}{{ caller() }}{% endcall %}{% endmacro %}{% macro inner() %}<{{ caller() }}>{% endmacro %}{% call outer() %}body{% endcall %}",
    "{% for x in l %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro f() %}{{ n }}{{ late }}{% endmacro %}{% set late = 'set' %}{{ f() }}",
    "{% macro f(a) %}{% macro g() %}{{ a }}{% endmacro %}{{ g() }}{% endmacro %}{{ f(3) }}{{ a }}",
    "{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=1) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f(a, b, c, d, e, g, h, i, j, k, l, m, n, o, p) %}{{ p }}{{ caller() }}{% endmacro %}{% call f(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) %}c{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}{% call f() %}{% endcall %}",
    "{% for x in l %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in l %}{% macro f() %}{% for y in l %}{% break %}{% endfor %}y{% endmacro %}{{ f() }}{% if x == 1 %}{% break %}{% endif %}{% endfor %}",
    "{% macro w() %}{{ caller() }}{% endmacro %}{% for x in l %}{% call w() %}{% continue %}{% endcall %}{% endfor %}",
    "{% for x in [1, 2, 3, 4] %}{{ loop.cycle('odd', 'even') }}{{ loop.depth }}{{ loop.depth0 }}{{ loop['index'] }} {% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in l %}{{ outer.index }}{{ loop.index }}{{ loop.depth }} {% endfor %}{% endfor %}",
    "{% for x in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in l %}{{ loop.changed_not }}{% endfor %}",
    "{% for role, items in messages | groupby('role') %}{{ role }}:{{ items | length }} {% endfor %}",
    "{% for row in l | batch(2, '-') %}{% for c in row %}{{ c }}{% endfor %}/{% endfor %}",
    "{% for line in 'a\\nb'.splitlines() %}[{{ line }}]{% endfor %}",
    "{{ f(a=1, 2) }}",
    "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
]


# What changes a list or a dict: the sandbox of chat templates forbids it in Python, published
# templates do it all the same.
MUTATIONS = [
    "{% set a = {'x': 1} %}{% set _ = a.update({'y': 2, 'x': 3}) %}{{ a }}",
    "{% set a = {'x': 1} %}{% set _ = a.update(y=2) %}{% set _ = a.update() %}{{ a }}",
    "{% set a = {'x': 1} %}{% set _ = a.update({'z': 0}, y=2) %}{{ a }}",
    "{% set a = {'x': 1} %}{% set _ = a.update(a) %}{{ a }}",
    "{% set a = {'x': 1} %}{{ a.update(1) }}",
    "{% set a = [1] %}{% set _ = a.append(2) %}{{ a }}{{ a.pop() }}{{ a.pop(0) }}{{ a }}",
    "{% set a = [1] %}{{ a.append(1, 2) }}",
    "{% set a = (1, 2) %}{{ a.append(3) }}",
]


def raise_exception(message):
    raise TemplateError(message)


def environment(kind):
    env = kind(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.filters["tojson"] = lambda v, indent=None: json.dumps(v, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    cases = []
    env = environment(ImmutableSandboxedEnvironment)
    for source in ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES + MUTATIONS:
        if source == MUTATIONS[0]:
            env = environment(SandboxedEnvironment)
        case = {"template": source}
        try:
            # A training mark that this Jinja does not know: its content is all there is to it.
            case["output"] = env.from_string(
                source.replace("{% generation %}", "").replace("{% endgeneration %}", "")).render(**CONTEXT)
        except Exception as e:  # whatever goes wrong there must be an error here
            case["error"] = str(e)
        cases.append(case)
    json.dump({"context": CONTEXT, "cases": cases}, sys.stdout, indent=1, ensure_ascii=True)
    print()


main()
