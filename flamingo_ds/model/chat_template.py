"""How a conversation becomes a prompt: as the paper writes its examples (appendix B), nothing added."""

# <image>question answer<EOC> for each pair of turns; a text before the first as it is. One space parts a user's text
# from the assistant's, and none an image from its caption.
CHAT_TEMPLATE = """
{%- set state = namespace(after_text=false) -%}
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception("role is '" ~ message['role'] ~ "'; expected system, user or assistant") -}}
    {%- endif -%}
    {%- set is_text = message['content'] is string -%}
    {%- set parts = [{'type': 'text', 'text': message['content']}] if is_text else message['content'] -%}
    {%- for part in parts -%}
        {%- if part['type'] in ['image', 'video'] -%}
            {{- '<' ~ part['type'] ~ '>' -}}
            {%- set state.after_text = false -%}
        {%- elif part['type'] == 'text' -%}
            {%- if message['role'] == 'assistant' and state.after_text and part['text'][:1] != ' ' -%}
                {{- ' ' -}}
            {%- endif -%}
            {{- part['text'] -}}
            {%- set state.after_text = part['text'] | length > 0 and part['text'][-1:] not in [' ', '\\n'] -%}
        {%- else -%}
            {{- raise_exception("type is '" ~ part['type'] ~ "'; expected text, image or video") -}}
        {%- endif -%}
    {%- endfor -%}
    {%- if message['role'] == 'assistant' -%}
        {{- '<EOC>' -}}
        {%- set state.after_text = false -%}
    {%- elif message['role'] == 'system' -%}
        {{- '\\n' -}}
        {%- set state.after_text = false -%}
    {%- endif -%}
{%- endfor -%}
""".strip()
